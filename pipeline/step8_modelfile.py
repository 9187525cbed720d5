"""Stage 8: write an Ollama Modelfile beside the GGUF, and let the model speak for the first time.

    pipeline modelfile
    pipeline modelfile --temperature 0.8 --num-predict 400
    pipeline modelfile --create horror-tales --run "I was walking on the shore, when I saw"
    pipeline modelfile --create you/horror-tales --push

`8_ollama` is complete in itself: move it anywhere, then `ollama create NAME -f Modelfile`.
`sample.txt` puts what the base model and the tuned one make of the same prompt side by side.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from pipeline.asked import read_as_asked
from pipeline.command import DEFAULT_DATA_DIR, DataDir, Force, OverwriteEdited
from pipeline.command import run_script as run_script
from pipeline.console import printable, say, warn
from pipeline.errors import UsageError
from pipeline.export import ollama
from pipeline.export.llama import TOP_K, TOP_P, complete
from pipeline.export.modelfile import (
    GUIDE,
    Parameters,
    can_hold,
    check_system,
    expressible,
    render_modelfile,
)
from pipeline.export.served import Parts, choose_parts, name_of, read_proof
from pipeline.files import link_or_copy
from pipeline.run import StageRun, open_run
from pipeline.workspace import Workspace

VERSION = 3
MODELFILE = ollama.MODELFILE
SAMPLE = "sample.txt"
SAMPLE_TOKENS = 80  # where training does not say how far it went on


def modelfile(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    gguf: Annotated[
        str | None, Option(help="Which GGUF: its quantization, or name (default: the first).")
    ] = None,
    temperature: Annotated[
        float, Option(help="0 always takes the likeliest word; 1 dares more.")
    ] = GUIDE.temperature,
    top_k: Annotated[
        int | None, Option(help="Draw from this many words (default: Ollama's, 40).")
    ] = None,
    top_p: Annotated[
        float | None, Option(help="Draw from the likeliest words of this share (Ollama's: 0.9).")
    ] = None,
    min_p: Annotated[
        float | None, Option(help="Never a word of less than this share of the likeliest's chance.")
    ] = None,
    repeat_penalty: Annotated[
        float, Option(help="Above 1 it is held back from repeating itself.")
    ] = GUIDE.repeat_penalty,
    repeat_last_n: Annotated[
        int, Option(help="How far back it looks in order not to repeat itself.")
    ] = GUIDE.repeat_last_n,
    num_predict: Annotated[
        int,
        Option(
            help="Tokens it writes at the most; -1: no end. Of the default three quarters of what "
            "the model sees at once are the most: the rest is for the prompt."
        ),
    ] = GUIDE.num_predict,
    num_ctx: Annotated[
        int | None,
        Option(min=1, help="Tokens the model sees at once (default: as it was trained)."),
    ] = None,
    sampling_seed: Annotated[
        int | None, Option(help="Same seed, same text (default: by chance).")
    ] = None,
    system: Annotated[
        str | None, Option(help="What a model of chats is told before each chat.")
    ] = None,
    from_model: Annotated[
        str | None,
        Option(
            "--from",
            "--from-model",
            help="For an adapter: the base that you have, as Ollama calls it, or its GGUF file.",
        ),
    ] = None,
    create: Annotated[
        str | None, Option(help="Register it with Ollama under this name: tales, or you/tales.")
    ] = None,
    run: Annotated[str | None, Option(help="Then ask it this.")] = None,
    push: Annotated[bool, Option("--push", help="Then publish it in Ollama's registry.")] = False,
    force: Force = False,
    overwrite_edited: OverwriteEdited = False,
) -> None:
    """Write the Modelfile that Ollama needs, and a first answer of the model.

    The template is that of a completion model (the prompt and nothing else), or of chats if it was
    trained on such, and every end token of the model is a stop. Where there is no Ollama, the
    commands for another machine are printed.
    """
    parameters = Parameters(
        temperature, repeat_last_n, repeat_penalty, num_predict, top_k, top_p, min_p, sampling_seed
    )
    wish = check_wishes(parameters, create, run, push)
    workspace = Workspace(data_dir)
    inputs = workspace.inputs("modelfile")
    proof = read_proof(inputs)
    parts = choose_parts(inputs, proof, gguf, from_model)
    check_system(system, proof["evaluation"].get("chat"))
    if wish and parts.model and parts.model.full == wish.name.full:
        raise UsageError(f"--create {create} would replace the base, which has the same name.")
    settings = {
        **parameters.given(), "num_ctx": num_ctx, "gguf": gguf, "from": from_model,
        "system": system,
    }  # fmt: skip
    with open_run(
        workspace, "modelfile", version=VERSION, settings=settings,
        inputs=[*inputs, *(path for path in parts.files if path not in inputs)], force=force,
        overwrite_edited=overwrite_edited,
    ) as stage:  # fmt: skip
        if not stage.is_fresh:
            text = text_of(stage, parts, proof, parameters, num_ctx or proof["context"], system)
            with stage.scratch() as folder:
                (folder / MODELFILE).write_text(text, "utf-8")
                (folder / SAMPLE).write_text(sample(parts, proof, parameters), "utf-8")
                for path in parts.files:
                    link_or_copy(path, folder / path.name)
                stage.adopt(folder)
            stage.counts["files"] = len(parts.files)
    report(stage, wish, proof["name"])


def check_wishes(
    parameters: Parameters, create: str | None, run: str | None, push: bool
) -> ollama.Wish | None:
    """What Ollama is to do, if anything. Raises UsageError, before there is a model."""
    parameters.check()
    return ollama.check_wish(create, run, push)


def text_of(
    stage: StageRun, parts: Parts, proof: dict[str, Any], parameters: Parameters, context: int,
    system: str | None,
) -> str:  # fmt: skip
    """The Modelfile. What its grammar cannot hold is left out or replaced, with a warning."""
    chat = proof["evaluation"].get("chat")
    if chat:
        chat = {**chat, "ends": holdable(stage, chat["ends"])}
        if not chat["joins"]:
            stage.warn(
                "The chat template that the model was trained with does more than put one turn"
                " after the other, so Ollama has to guess one: look at what `ollama show"
                f" --template` says, and write TEMPLATE into {stage.directory / MODELFILE}."
            )
    fitted = parameters.fitted(context)
    for name in ("num_predict", "repeat_last_n"):
        asked, written = getattr(parameters, name), getattr(fitted, name)
        if asked != written and asked != getattr(GUIDE, name):
            stage.warn(
                f"--{name.replace('_', '-')} {asked} is more than the model sees at once:"
                f" {written} is written. --num-ctx says how much that is."
            )
    prose = {"system prompt": system, "licence": proof["base_model"].get("licence")}
    held = {what: expressible(text) if text else None for what, text in prose.items()}
    for what in held:
        if held[what] != (prose[what] or None):
            stage.warn(f"Characters of the {what} that a Modelfile cannot hold were replaced.")
    return render_modelfile(
        parts.gguf.name if parts.gguf else None,
        context=context,
        stops=holdable(stage, proof["end_tokens"]),
        parameters=parameters,
        title=proof["name"],
        licence=held["licence"],
        chat=chat,
        system=held["system prompt"],
        adapter_name=parts.adapter.name if parts.adapter else None,
        model_name=parts.model.full if parts.model else None,
    )  # fmt: skip


def holdable(stage: StageRun, stops: list[str]) -> list[str]:
    """The end tokens that a Modelfile can hold. (The GGUF names its end token by itself, too.)"""
    for stop in stops:
        if not can_hold(stop):
            stage.warn(f"The end token {stop!r} is no `stop`: a Modelfile cannot hold it.")
    return [stop for stop in stops if can_hold(stop)]


def sample(parts: Parts, proof: dict[str, Any], parameters: Parameters) -> str:
    """What base and tuned model make of the prompt, one under the other, and their scores."""
    evaluation = proof["evaluation"]
    samples, bits, name = evaluation["samples"], evaluation["bits_per_byte"], "adapter"
    tuned, score = samples.get("adapter", ""), None
    if parts.gguf and not parts.adapter:
        name, file = parts.gguf.name, proof["files"][parts.gguf.name]
        tuned = first_answer(parts.gguf, evaluation, file, parameters)
        # A quick proof scores a part of the text only, which is not to be compared with all of it.
        is_same_text = (proof.get("text") or {}).get("whole", True)
        score = file.get("bits_per_byte") if is_same_text else None
    # Of an adapter that came without an account of its training less is known.
    said = {f"{name_of(proof['base_model'])} (base model)": samples.get("base", "")}
    said[f"{name} (yours)"] = tuned
    asked = next(iter(read_as_asked(evaluation)), "")
    origin = evaluation.get("prompts_from")
    lines = [f"Prompt{f' (of {origin})' if origin else ''}:\n  {one_line(asked)}"]
    lines += [f"{who} goes on:\n  {one_line(text)}" for who, text in said.items() if text]
    scores = {"base model": bits.get("base"), "adapter": bits.get("adapter"), "GGUF": score}
    known = [f"  {who:<10} {bits:.4f}" for who, bits in scores.items() if bits is not None]
    if known:
        lines.append("\n".join(["Bits per byte of the held-out text (less is better):", *known]))
    return "\n\n".join(lines) + "\n"


def first_answer(
    gguf: Path, evaluation: dict[str, Any], file: dict[str, Any], parameters: Parameters
) -> str:
    """What the GGUF makes of the prompt, drawn as the Modelfile says."""
    chat = evaluation.get("chat")
    seed = file.get("seed", 0) if parameters.seed is None else parameters.seed
    return complete(
        gguf,
        chat["prompt_ids"] if chat else evaluation["prompt"],
        max_tokens=evaluation["settings"].get("sample_tokens", SAMPLE_TOKENS),
        temperature=parameters.temperature,
        top_p=TOP_P if parameters.top_p is None else parameters.top_p,
        top_k=TOP_K if parameters.top_k is None else parameters.top_k,
        min_p=0.0 if parameters.min_p is None else parameters.min_p,
        repeat_penalty=parameters.repeat_penalty,
        repeat_last_n=parameters.repeat_last_n,
        seed=seed,
    ).text


def one_line(text: str) -> str:
    """A completion with its paragraphs set off, indented, and without what hangs at its end."""
    return "\n  ".join(line for line in text.strip().splitlines() if line.strip())


def report(stage: StageRun, wish: ollama.Wish | None, title: str) -> None:
    """Say where the Modelfile is, and have Ollama do what was asked, or tell how."""
    text, program = str(stage.directory / MODELFILE), ollama.find_program()
    if wish is None:
        name = ollama.parse_name(ollama.suggested_name(title), "--create")
        first, *others = ollama.commands(ollama.Wish(name, None, False), stage.directory)
        shown = " && ".join([first, *others, f"ollama run {name}"])
        stage.report(f"{text}. With Ollama installed: {shown}")
        return
    stage.report(text)
    if program is None:
        warn("Ollama is not on this machine. On one that has it, these commands do the rest:")
        typer.echo("\n".join(ollama.commands(wish, stage.directory)))
        return
    ollama.create(program, wish.name, stage.directory)
    say(f"Ollama has it: ollama run {wish.name}")
    if wish.prompt is not None:
        ollama.ask(program, wish.name, wish.prompt, stage.directory, echo)
        typer.echo()
    if wish.push:
        ollama.push(program, wish.name, stage.directory)
        say(f"published: {wish.name}")


def echo(text: str) -> None:
    """Pass a piece of an answer on."""
    typer.echo(printable(text), nl=False)


if __name__ == "__main__":
    run_script(modelfile)
