"""Stage 7: merge the adapter into its base, convert to GGUF, quantize, and prove that it runs.

    pipeline quantize
    pipeline quantize --quantization q4_k_m --quantization q8_0

llama.cpp's own converter and quantizer do the work, in processes of their own with full logs. Each
file is then loaded by llama.cpp, scored on the held-out text and asked to go on from a prompt;
`proof.json` says how it did.
"""

import json
import math
import shutil
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from pipeline.command import DEFAULT_DATA_DIR, DataDir, Force, OverwriteEdited
from pipeline.command import run_script as run_script
from pipeline.console import progress
from pipeline.errors import PipelineError, UsageError
from pipeline.export import gguf, llama
from pipeline.export.merge import MAX_MEMORY, merge_adapter
from pipeline.export.modelfile import end_tokens
from pipeline.export.quantizations import QUANTIZATIONS, check_quantization
from pipeline.files import write_json
from pipeline.run import StageRun, open_run
from pipeline.scoring.bits import bits_per_byte, load_windows
from pipeline.training.base_model import resolve_base_model
from pipeline.training.libraries import quiet_libraries
from pipeline.workspace import Workspace

VERSION = 1
PROOF = "proof.json"
WINDOWS = "windows.json"
ODD_TEXT = "“Café — 3½ o’clock”,  she\n\nsaid:\ttwo  spaces, ’twas 1821; naïve ﬁn 猫 🕯️ <|odd|>"
SEEDS = range(5)  # a model may hold a prompt for finished; one that always does is broken
DEFAULT_MAX_MEMORY = MAX_MEMORY / 2**30
COMMON = ("q4_k_m", "q5_k_m", "q8_0", "f16")


def quantize(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    quantization: Annotated[
        list[str] | None,
        Option(
            help="Type of the GGUF, q4_k_m by default; may be repeated. Common: "
            + "; ".join(f"{name} ({QUANTIZATIONS[name].description})" for name in COMMON)
            + ". Any type of llama.cpp is taken."
        ),
    ] = None,
    model_name: Annotated[
        str | None, Option(help="Name of the model and its files (default: the base's, -tuned).")
    ] = None,
    max_memory: Annotated[
        float, Option(help="GiB of memory that merging may take, besides the libraries.")
    ] = DEFAULT_MAX_MEMORY,
    merge_base: Annotated[
        str | None,
        Option(
            help="The 16-bit original of a base that is stored in 4 bits, a folder or a Hub id: the"
            " adapter is merged into that one. Default: into the 4-bit weights, unpacked, which is"
            " exactly the model that was trained."
        ),
    ] = None,
    force: Force = False,
    overwrite_edited: OverwriteEdited = False,
) -> None:
    """Merge the adapter, convert to GGUF, quantize, and prove that each file runs.

    A failure or a crash in llama.cpp ends the stage with one sentence and the path of the log;
    the adapter is not touched.
    """
    kinds = chosen_kinds(quantization)
    if not 0 < max_memory < math.inf:
        raise UsageError(f"--max-memory must be above 0, not {max_memory}.")
    workspace = Workspace(data_dir)
    inputs = workspace.inputs("quantize")
    with open_run(
        workspace, "quantize", version=VERSION,
        settings={"quantization": kinds, "model_name": model_name, "merge_base": merge_base},
        inputs=inputs, force=force, overwrite_edited=overwrite_edited,
    ) as run:  # fmt: skip
        if not run.is_fresh:
            with run.scratch() as scratch:
                out = scratch / "out"
                out.mkdir()
                memory = round(max_memory * 2**30)
                export(run, scratch, out, kinds, model_name, memory, merge_base)
                run.adopt(out)
    report(run)


def chosen_kinds(quantization: list[str] | None) -> list[str]:
    """The types to make, each once. Raises UsageError for one that llama.cpp does not have."""
    wanted = quantization or ["q4_k_m"]
    return list(dict.fromkeys(check_quantization(kind).name for kind in wanted))


def export(
    run: StageRun,
    scratch: Path,
    out: Path,
    kinds: list[str],
    model_name: str | None,
    max_memory: int,
    merge_base: str | None,
) -> None:
    """Make the GGUFs in `out`, and their proof; what lies between is deleted on the way."""
    workspace = run.workspace
    adapter = workspace.directory("train")
    evaluation = json.loads((adapter / "evaluation.json").read_text("utf-8"))
    base = resolve_base_model(*trained_on(workspace))
    original = resolve_base_model(merge_base, workspace.cache / "base") if merge_base else None
    name = model_name or f"{base.name.split('/')[-1]}-tuned"
    stem = safe_stem(name)
    logs = run.directory / "logs"
    logs.mkdir(exist_ok=True)
    quiet_libraries()
    merged, plain = scratch / "merged", scratch / "plain.gguf"
    with progress("quantize", 2 + 2 * len(kinds), "steps") as advance:
        chat = evaluation.get("chat")
        merge_adapter(
            base.path, adapter, merged, keep_chat_template=bool(chat), max_memory=max_memory,
            merge_base=original.path if original else None,
        )  # fmt: skip
        if chat:
            set_chat_template(merged, chat["template"])
        advance(note="merged")
        gguf.convert(merged, plain, logs / "convert.log", name=name, metadata=about(base.licence))
        gguf.check_tokenizer(plain, merged, [evaluation["prompt"], ODD_TEXT], logs / "convert.log")
        shutil.rmtree(merged)
        advance(note="converted")
        files = {}
        for kind in kinds:
            path = out / f"{stem}-{kind.upper()}.gguf"
            log = logs / f"{kind}.log"
            gguf.quantize(plain, path, kind, log)
            advance(note=f"{kind} written")
            files[path.name] = prove(path, evaluation, adapter / WINDOWS, log)
            advance(note=f"{kind} proven")
    write_json(
        out / PROOF,
        {
            "name": name,
            "base_model": base.as_dict(),
            "files": files,
            "end_tokens": end_tokens(base.path),
            "context": evaluation["sequence_length"],
            "evaluation": evaluation,
        },
    )
    run.counts["files"] = len(files)
    run.counts["bits_per_byte"] = {name: file["bits_per_byte"] for name, file in files.items()}


def trained_on(workspace: Workspace) -> tuple[str, Path, str | None]:
    """The base model that the adapter belongs to, as `resolve_base_model` takes it.

    The record of stage 6 knows how it was asked for; an adapter that came without one says only
    where the model lay when it was trained.
    """
    cache = workspace.cache / "base"
    record = workspace.record("train")
    if record is not None:
        return record.settings["base_model"], cache, record.settings["revision"]
    config = workspace.directory("train") / "adapter_config.json"
    return json.loads(config.read_text("utf-8"))["base_model_name_or_path"], cache, None


def prove(path: Path, evaluation: dict[str, Any], windows: Path, log: Path) -> dict[str, Any]:
    """Load a GGUF in a process of its own, score it on the held-out text, let it write.

    Raises PipelineError if it does not load, crashes, or writes nothing.
    """
    held_out = load_windows(windows)
    ids, masks = [window.ids for window in held_out], [window.mask for window in held_out]
    nats = llama.score(path, ids, log, masks=masks)
    for seed in SEEDS:
        completion = llama.complete(
            path, sample_prompt(evaluation), max_tokens=80, seed=seed, log=log
        )
        if completion.text.strip():
            break
    else:
        raise PipelineError(
            f"{path.name} loads, but does not go on from {evaluation['prompt']!r}.",
            f"See {log}; try another --quantization.",
        )
    return {
        "bytes": path.stat().st_size,
        "bits_per_byte": bits_per_byte(nats, sum(window.n_bytes for window in held_out)),
        "sample": completion.text,
        "seed": seed,
        "tokens_per_second": round(completion.tokens / max(completion.seconds, 1e-9), 1),
    }


def sample_prompt(evaluation: dict[str, Any]) -> str | list[int]:
    """The prompt as the model was trained to see it: of chats in its template, as token ids."""
    chat = evaluation.get("chat")
    prompt: str | list[int] = chat["prompt_ids"] if chat else evaluation["prompt"]
    return prompt


def set_chat_template(model: Path, template: str) -> None:
    """Make `template` the one of the model in this folder, which the GGUF then carries."""
    (model / "chat_template.json").unlink(missing_ok=True)
    (model / "chat_template.jinja").write_text(template, "utf-8")
    config = model / "tokenizer_config.json"
    if config.is_file():
        settings = json.loads(config.read_text("utf-8"))
        if settings.pop("chat_template", None) is not None:  # it would go before the other
            write_json(config, settings)


def about(licence: str | None) -> dict[str, Any]:
    """What the GGUF's header says of the model besides its name."""
    return {"general.license": licence} if licence else {}


def safe_stem(name: str) -> str:
    """A file name without its ending, of letters, digits, dots and hyphens only."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in ".-_") else "-" for c in name)
    return kept.strip(".-")[:80] or "model"


def report(run: StageRun) -> None:
    """Print the line that sums the stage up, one for each file."""
    for name, bits in run.counts["bits_per_byte"].items():
        path = run.directory / name
        size = path.stat().st_size / 1e6
        run.report(f"{path}, {size:,.0f} MB, held-out bits per byte {bits:.4f}, it runs")


if __name__ == "__main__":
    run_script(quantize)
