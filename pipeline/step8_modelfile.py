"""Stage 8: write an Ollama Modelfile beside the GGUF, and let the model speak for the first time.

    pipeline modelfile
    pipeline modelfile --temperature 0.8 --num-predict 400

`8_ollama` is complete in itself: move it anywhere, then `ollama create NAME -f Modelfile`.
`sample.txt` puts what the base model and the tuned one make of the same prompt side by side.
"""

import json
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from pipeline.command import DEFAULT_DATA_DIR, DataDir, Force, OverwriteEdited
from pipeline.command import run_script as run_script
from pipeline.errors import PipelineError
from pipeline.export.llama import complete
from pipeline.export.modelfile import render_modelfile
from pipeline.files import link_or_copy
from pipeline.run import open_run
from pipeline.workspace import Workspace

VERSION = 1
MODELFILE = "Modelfile"
SAMPLE = "sample.txt"


def modelfile(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    temperature: Annotated[
        float, Option(min=0, help="0 always takes the likeliest word; 1 dares more.")
    ] = 0.6,
    num_ctx: Annotated[
        int | None,
        Option(min=1, help="Tokens the model sees at once (default: as it was trained)."),
    ] = None,
    num_predict: Annotated[int, Option(help="Tokens it writes at the most.")] = 2048,
    repeat_last_n: Annotated[
        int, Option(help="How far back it looks in order not to repeat itself.")
    ] = 256,
    force: Force = False,
    overwrite_edited: OverwriteEdited = False,
) -> None:
    """Write the Modelfile that Ollama needs, and a first answer of the model.

    The template is that of a completion model (the prompt and nothing else), or of chats if it was
    trained on such, and every end token of the model is a stop.
    """
    workspace = Workspace(data_dir)
    inputs = workspace.inputs("modelfile")
    settings = {
        "temperature": temperature, "num_ctx": num_ctx, "num_predict": num_predict,
        "repeat_last_n": repeat_last_n,
    }  # fmt: skip
    with open_run(
        workspace, "modelfile", version=VERSION, settings=settings, inputs=inputs, force=force,
        overwrite_edited=overwrite_edited,
    ) as run:  # fmt: skip
        if not run.is_fresh:
            source, proof = read_proof(inputs)
            text = render_modelfile(
                source.name,
                context=num_ctx or proof["context"],
                stops=proof["end_tokens"],
                temperature=temperature,
                repeat_last_n=repeat_last_n,
                num_predict=num_predict,
                title=proof["name"],
                licence=proof["base_model"]["licence"],
                chat=proof["evaluation"].get("chat"),
            )
            with run.scratch() as folder:
                (folder / MODELFILE).write_text(text, "utf-8")
                (folder / SAMPLE).write_text(sample(source, proof, temperature), "utf-8")
                link_or_copy(source, folder / source.name)
                run.adopt(folder)
            run.counts["files"] = len(list(run.directory.glob("*.gguf")))
    run.report(
        f"{run.directory / MODELFILE}. With Ollama installed: cd {run.directory} && "
        "ollama create my-model -f Modelfile && ollama run my-model"
    )


def read_proof(inputs: list[Path]) -> tuple[Path, dict[str, Any]]:
    """The GGUF to serve (the first that was asked for) and the proof of stage 7."""
    by_name = {path.name: path for path in inputs}
    if "proof.json" not in by_name:
        raise PipelineError(
            f"{inputs[0].parent} has no proof.json.", "Run `pipeline quantize` first."
        )
    proof = json.loads(by_name["proof.json"].read_text("utf-8"))
    for name in proof["files"]:
        if name in by_name:
            return by_name[name], proof
    raise PipelineError(f"{inputs[0].parent} has no GGUF.", "Run `pipeline quantize` first.")


def sample(source: Path, proof: dict[str, Any], temperature: float) -> str:
    """What base and tuned model make of the prompt, one under the other, and their scores."""
    evaluation = proof["evaluation"]
    prompt = evaluation["prompt"]
    length = evaluation["settings"]["sample_tokens"]
    seed = proof["files"][source.name]["seed"]
    chat = evaluation.get("chat")
    given = chat["prompt_ids"] if chat else prompt
    tuned = complete(source, given, max_tokens=length, temperature=temperature, seed=seed)
    bits = evaluation["bits_per_byte"]
    lines = [
        f"Prompt:\n  {prompt}",
        f"{proof['base_model']['name']} (base model) goes on:\n  "
        + one_line(evaluation["samples"]["base"]),
        f"{source.name} (yours) goes on:\n  {one_line(tuned.text)}",
        "Bits per byte of the held-out text (less is better):\n"
        f"  base model {bits['base']:.4f}\n"
        f"  adapter    {bits['adapter']:.4f}\n"
        f"  GGUF       {proof['files'][source.name]['bits_per_byte']:.4f}",
    ]
    return "\n\n".join(lines) + "\n"


def one_line(text: str) -> str:
    """A completion with its paragraphs set off, indented, and without what hangs at its end."""
    return "\n  ".join(line for line in text.strip().splitlines() if line.strip())


if __name__ == "__main__":
    run_script(modelfile)
