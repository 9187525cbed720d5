"""Stage 7: merge the adapter into its base, convert to GGUF, quantize, and prove the result.

    pipeline quantize
    pipeline quantize --quantization q4_k_m --quantization q8_0
    pipeline quantize --checkpoint best --proof quick
    pipeline quantize --adapter someone/horror-lora --as-adapter

llama.cpp's own converter and quantizer do the work, in processes of their own with full logs. Then
it is proven that each file is the model that was trained: `proof.json` holds all figures, and what
is out of bounds fails the stage. What is proven stays: the same command makes only what is missing.
"""

import math

import typer

from pipeline import quantize_options as options
from pipeline.command import DEFAULT_DATA_DIR, DataDir, Force, OverwriteEdited
from pipeline.command import run_script as run_script
from pipeline.errors import UsageError
from pipeline.export.finished import PROOF
from pipeline.export.merge import MAX_MEMORY
from pipeline.export.proof import sample_prompt as sample_prompt
from pipeline.export.proof_bounds import Bounds, check_mode
from pipeline.export.proof_table import proof_line, proof_table
from pipeline.export.quantizations import check_quantization
from pipeline.files import fingerprint, read_json_object
from pipeline.printing import print_table
from pipeline.quantize_inputs import set_chat_template as set_chat_template
from pipeline.quantizing import Wish, export
from pipeline.run import StageRun, open_run
from pipeline.training.adapter_sources import find_source
from pipeline.workspace import Workspace

VERSION = 3
DEFAULT_MAX_MEMORY = MAX_MEMORY / 2**30


def quantize(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    quantization: options.Quantization = None,
    model_name: options.ModelName = None,
    author: options.Author = None,
    as_adapter: options.AsAdapter = False,
    max_memory: options.MaxMemory = DEFAULT_MAX_MEMORY,
    merge_base: options.MergeBase = None,
    adapter: options.Adapter = None,
    adapter_revision: options.AdapterRevision = None,
    adapter_base: options.AdapterBase = None,
    checkpoint: options.Checkpoint = None,
    proof: options.ProofMode = None,
    max_bits_lost: options.MaxBitsLost = None,
    max_merge_divergence: options.MaxMergeDivergence = None,
    max_token_differences: options.MaxTokenDifferences = 0,
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
    if as_adapter and merge_base:
        raise UsageError("Nothing is merged for --as-adapter, so --merge-base is of no use to it.")
    if as_adapter and quantization:
        raise UsageError("--as-adapter makes one file of 16 bits; leave out --quantization.")
    workspace = Workspace(data_dir)
    source = find_source(
        workspace, adapter, checkpoint=checkpoint, revision=adapter_revision,
        base_model=adapter_base,
    )  # fmt: skip
    wish = Wish(
        kinds, model_name, author, round(max_memory * 2**30), merge_base, as_adapter, proof, bounds
    )
    of_each = {
        "model_name": model_name, "author": author, "merge_base": merge_base,
        "as_adapter": as_adapter, "adapter": source.settings["adapter"],
        "adapter_revision": source.settings["revision"], "adapter_base": adapter_base,
        "checkpoint": checkpoint, "proof": proof, **bounds.given(),
    }  # fmt: skip
    with open_run(
        workspace, "quantize", version=VERSION,
        settings={"quantization": None if as_adapter else kinds, **of_each},
        inputs=source.inputs, force=force, overwrite_edited=overwrite_edited,
    ) as run:  # fmt: skip
        if not run.is_fresh:
            key = fingerprint([VERSION, of_each, [fact.as_json() for fact in run.inputs]])
            with run.scratch() as scratch:
                export(run, source, scratch, wish, key)
    report(run)


def chosen_kinds(quantization: list[str] | None) -> list[str]:
    """The types to make, each once. Raises UsageError for one that llama.cpp does not have."""
    wanted = quantization or ["q4_k_m"]
    return list(dict.fromkeys(check_quantization(kind).name for kind in wanted))


def report(run: StageRun) -> None:
    """Print the table of the proof, and for each file the line that sums it up."""
    path, text = run.directory / PROOF, "held-out"
    if path.is_file():
        proof = read_json_object(path)
        print_table(proof_table(proof))
        typer.echo(proof_line(proof))
        if not (proof.get("text") or {}).get("held_out", True):
            text = "other text's"
    for name, bits in run.counts["bits_per_byte"].items():
        size = (run.directory / name).stat().st_size / 1e6
        said = "not proven" if bits is None else f"{text} bits per byte {bits:.4f}, proven"
        run.report(f"{run.directory / name}, {size:,.0f} MB, {said}")


if __name__ == "__main__":
    run_script(quantize)
