"""Stage 7: merge the adapter into its base, convert to GGUF, quantize, and prove the result.

    pipeline quantize
    pipeline quantize --quantization q4_k_m --quantization q8_0
    pipeline quantize --proof quick

llama.cpp's own converter and quantizer do the work, in processes of their own with full logs. Then
it is proven that each file is the model that was trained: `proof.json` holds all figures, and what
is out of bounds fails the stage.
"""

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from pipeline.command import DEFAULT_DATA_DIR, DataDir, Force, OverwriteEdited
from pipeline.command import run_script as run_script
from pipeline.console import print_table, progress
from pipeline.corpus.token_cache import load_tokenizer
from pipeline.corpus.tokens import plain_ids
from pipeline.errors import PipelineError, UsageError
from pipeline.export import gguf
from pipeline.export.merge import MAX_MEMORY, Merged, merge_adapter
from pipeline.export.modelfile import end_tokens
from pipeline.export.proof import Proof, Unproven
from pipeline.export.proof import sample_prompt as sample_prompt
from pipeline.export.proof_bounds import Bounds, check_mode, choose_mode
from pipeline.export.proof_subject import read_subject
from pipeline.export.proof_table import proof_line, proof_table
from pipeline.export.quantizations import QUANTIZATIONS, check_quantization
from pipeline.files import read_json_object, write_json
from pipeline.quantize_inputs import (
    ends_of_documents,
    loaded,
    set_chat_template,
    trained_model,
    trained_on,
    weights_of,
)
from pipeline.run import StageRun, open_run
from pipeline.training.base_model import BaseModel, resolve_base_model
from pipeline.training.libraries import quiet_libraries
from pipeline.training.scored_models import find_candidate
from pipeline.workspace import Workspace

VERSION = 2
PROOF = "proof.json"
WINDOWS = "windows.json"
DEFAULT_MAX_MEMORY = MAX_MEMORY / 2**30
COMMON = ("q4_k_m", "q5_k_m", "q8_0", "f16")


@dataclass(frozen=True)
class Wish:
    """What is to be made, and how it is to be proven."""

    kinds: list[str]
    model_name: str | None
    max_memory: int
    merge_base: str | None
    proof: str | None
    bounds: Bounds


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
    proof: Annotated[
        str | None,
        Option(
            help="full: ask adapter, merged model and GGUFs on all held-out text. quick: a thousand"
            " tokens of it, and the merged model is not compared with the adapter. none: the model"
            " card will say so. Default: full, or quick where full would take over five minutes."
        ),
    ] = None,
    max_bits_lost: Annotated[
        float | None,
        Option(
            help="Bits per byte by which a GGUF may differ from the merged model. Default: 0.001 of"
            " 16 bits and more, 0.005 of q8_0, of others what only a broken file loses."
        ),
    ] = None,
    max_merge_divergence: Annotated[
        float | None,
        Option(
            help="Nats per token by which the merged model may differ from base and adapter."
            " Default: 0.002, or 0.02 where memory allows only to compute in 16 bits."
        ),
    ] = None,
    max_token_differences: Annotated[
        int, Option(help="Texts of the proof that llama.cpp may split into other tokens.")
    ] = 0,
    force: Force = False,
    overwrite_edited: OverwriteEdited = False,
) -> None:
    """Merge the adapter, convert to GGUF, quantize, and prove that each file is what was trained.

    A failure or a crash in llama.cpp ends the stage with one sentence and the path of the log, and
    so does a file that is not the trained model; the adapter is not touched.
    """
    kinds = chosen_kinds(quantization)
    bounds = Bounds(max_bits_lost, max_merge_divergence, max_token_differences)
    bounds.check()
    check_mode(proof)
    if not 0 < max_memory < math.inf:
        raise UsageError(f"--max-memory must be above 0, not {max_memory}.")
    wish = Wish(kinds, model_name, round(max_memory * 2**30), merge_base, proof, bounds)
    workspace = Workspace(data_dir)
    inputs = workspace.inputs("quantize")
    with open_run(
        workspace, "quantize", version=VERSION,
        settings={
            "quantization": kinds, "model_name": model_name, "merge_base": merge_base,
            "proof": proof, **bounds.given(),
        },
        inputs=inputs, force=force, overwrite_edited=overwrite_edited,
    ) as run:  # fmt: skip
        if not run.is_fresh:
            with run.scratch() as scratch:
                out = scratch / "out"
                out.mkdir()
                export(run, scratch, out, wish)
                run.adopt(out)
    report(run)


def chosen_kinds(quantization: list[str] | None) -> list[str]:
    """The types to make, each once. Raises UsageError for one that llama.cpp does not have."""
    wanted = quantization or ["q4_k_m"]
    return list(dict.fromkeys(check_quantization(kind).name for kind in wanted))


def export(run: StageRun, scratch: Path, out: Path, wish: Wish) -> None:
    """Make the GGUFs in `out`, and their proof; what lies between is deleted on the way."""
    workspace = run.workspace
    adapter = workspace.directory("train")
    evaluation = json.loads((adapter / "evaluation.json").read_text("utf-8"))
    base = resolve_base_model(*trained_on(workspace))
    original = base
    if wish.merge_base:
        original = resolve_base_model(wish.merge_base, workspace.cache / "base")
    name = wish.model_name or f"{base.name.split('/')[-1]}-tuned"
    logs = run.directory / "logs"
    logs.mkdir(exist_ok=True)
    quiet_libraries()
    merged, plain = scratch / "merged", scratch / "plain.gguf"
    with progress("quantize", 3 + 2 * len(wish.kinds), "steps") as advance:
        chat = evaluation.get("chat")
        done = merge_adapter(
            base.path, adapter, merged, keep_chat_template=bool(chat), max_memory=wish.max_memory,
            merge_base=original.path if wish.merge_base else None,
        )  # fmt: skip
        if chat:
            set_chat_template(merged, chat["template"])
        advance(note="merged")
        gguf.convert(merged, plain, logs / "convert.log", name=name, metadata=about(base.licence))
        advance(note="converted")
        proof = start_proof(run, wish, base, evaluation, done, scratch / "logits")
        report = {
            "name": name,
            "base_model": base.as_dict(),
            "end_tokens": end_tokens(base.path),
            "context": evaluation["sequence_length"],
            "evaluation": evaluation,
            "sizes": {
                "base": weights_of(original.path), "adapter": weights_of(adapter),
                "merged": done.bytes,
            },
        }  # fmt: skip
        with kept_if_it_fails(proof, report, logs / PROOF):
            proof.take_models(
                partial(loaded, trained_model(adapter, original), workspace),
                partial(loaded, find_candidate(str(merged)), workspace),
                done.bytes // 2, plain, logs / "convert.log",
            )  # fmt: skip
            advance(note="merged model compared")
            shutil.rmtree(merged)
            for kind in wish.kinds:
                path, log = out / f"{safe_stem(name)}-{kind.upper()}.gguf", logs / f"{kind}.log"
                gguf.quantize(plain, path, kind, log)
                advance(note=f"{kind} written")
                proof.check_file(path, kind, log)
                advance(note=f"{kind} proven")
    write_json(out / PROOF, report | proof.as_dict())
    run.counts["files"] = len(proof.files)
    run.counts["bits_per_byte"] = {
        name: file["bits_per_byte"] for name, file in proof.files.items()
    }


def start_proof(
    run: StageRun, wish: Wish, base: BaseModel, evaluation: dict[str, Any], merged: Merged,
    logits: Path,
) -> Proof | Unproven:  # fmt: skip
    """The proof as it is wished for, with the held-out text that it takes."""
    adapter = run.workspace.directory("train")
    if wish.proof == "none":
        return Unproven(evaluation)
    has_own = (adapter / "tokenizer.json").is_file()
    tokenizer = load_tokenizer(adapter if has_own else base.path)
    subject = read_subject(
        adapter / WINDOWS, evaluation, tokenizer, partial(plain_ids, tokenizer),
        end_texts=end_tokens(base.path), tails=ends_of_documents(run.workspace, tokenizer),
    )  # fmt: skip
    mode = choose_mode(wish.proof, merged.bytes // 2, subject.tokens, len(wish.kinds))
    if mode == "quick":
        subject = subject.shortened()
    return Proof(subject, wish.bounds, logits, run.directory / "logs" / PROOF, mode)


@contextmanager
def kept_if_it_fails(proof: Proof | Unproven, report: dict[str, Any], path: Path) -> Iterator[None]:
    """Leave what was measured until the proof failed in the folder of the logs, and show it."""
    path.unlink(missing_ok=True)
    try:
        yield
    except PipelineError as error:
        failed = report | proof.as_dict() | {"proven": False, "why": error.message}
        write_json(path, failed)
        print_table(proof_table(failed))
        raise


def about(licence: str | None) -> dict[str, Any]:
    """What the GGUF's header says of the model besides its name."""
    return {"general.license": licence} if licence else {}


def safe_stem(name: str) -> str:
    """A file name without its ending, of letters, digits, dots and hyphens only."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in ".-_") else "-" for c in name)
    return kept.strip(".-")[:80] or "model"


def report(run: StageRun) -> None:
    """Print the table of the proof, and for each file the line that sums it up."""
    path = run.directory / PROOF
    if path.is_file():
        proof = read_json_object(path)
        print_table(proof_table(proof))
        typer.echo(proof_line(proof))
    for name, bits in run.counts["bits_per_byte"].items():
        size = (run.directory / name).stat().st_size / 1e6
        said = "not proven" if bits is None else f"held-out bits per byte {bits:.4f}, proven"
        run.report(f"{run.directory / name}, {size:,.0f} MB, {said}")


if __name__ == "__main__":
    run_script(quantize)
