"""`--as-adapter`: the adapter alone as a GGUF, for those who have its base model at home.

llama.cpp adds it to a base of the same shapes when it loads (Ollama: an `ADAPTER` line). The file
holds two small matrices for each that was adapted, in the order of rows that llama.cpp has, and
one alpha. What it cannot hold is refused before any work.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError, UsageError
from pipeline.export.about import clean, plain
from pipeline.export.adapter_files import WEIGHTS, Adapter, read_adapter
from pipeline.export.adapters import Change, find_changes
from pipeline.export.bases import read_base
from pipeline.export.companions import BaseChanges, read_base_changes
from pipeline.export.gguf import check_converter, removed_on_failure
from pipeline.export.header import Header, read_header
from pipeline.export.llama import thread_count
from pipeline.export.names import Homes, empty_model, find_homes
from pipeline.export.process import python_module, run_logged
from pipeline.export.whole_model import holds_model
from pipeline.files import read_json_object

OUTTYPES = ("f32", "f16")
WORKER = "pipeline.export.adapter_worker"


@dataclass(frozen=True)
class Pair:
    """Two matrices of an adapter, for a tensor of the base: `key` is its name there, `a` and `b`
    are names in the adapter's file, and the update is scale * (B @ A), transposed where the base
    keeps the matrix so."""

    key: str
    a: str
    b: str
    rank: int
    scale: float
    transposed: bool


def check_as_adapter(base_dir: Path, adapter_dir: Path) -> list[Pair]:
    """What an adapter changes of its base, once it is known that a GGUF adapter can hold it.

    Reads names and shapes only.

    Raises:
        PipelineError: it is a whole model, or changes something that the format has no place for
            (DoRA, new tokens, trained embeddings, stretched positions); or the two do not fit.
    """
    if holds_model(adapter_dir):
        raise _refusal(adapter_dir, "it is a whole model, and no adapter")
    adapter = read_adapter(adapter_dir)
    changes = read_base_changes(adapter_dir)
    if changes.extra_tokens:
        raise _refusal(adapter_dir, f"it has {len(changes.extra_tokens)} new tokens")
    if changes != BaseChanges():
        raise _refusal(adapter_dir, "it stretches the positions of its base")
    config = read_json_object(base_dir / "config.json")
    homes = find_homes(empty_model(base_dir), read_base(base_dir, config), base_dir)
    wanted, _ = find_changes(adapter, base_dir, homes, None)
    return [_pair(name, change, homes, adapter) for name, change in wanted.items()]


def _pair(name: str, change: Change, homes: Homes, adapter: Adapter) -> Pair:
    update, folder = change.low_rank, adapter.folder
    module = name.removesuffix(".weight")
    if change.rows:
        raise _refusal(folder, f"it trains rows of {module}, for new tokens")
    if change.whole or update is None:
        raise _refusal(folder, f"it has all of {module} anew (modules_to_save)")
    if update.magnitude:
        raise _refusal(folder, "it is a DoRA, which scales the base's own weights")
    if module == _embedding(homes.model) or name in homes.tied or name in homes.tied.values():
        raise _refusal(folder, f"it changes the embedding {module}")
    key = homes.direct.get(name)
    if key is None or update.experts > 1:
        raise _refusal(folder, f"it changes {module}, which holds several matrices in one")
    rank = adapter.tensors[update.a].shape[0]
    return Pair(key, update.a, update.b, rank, update.scale, update.transposed)


def _embedding(model: Any) -> str:
    table = model.get_input_embeddings()
    return next((name for name, module in model.named_modules() if module is table), "")


def _refusal(folder: Path, why: str) -> PipelineError:
    return PipelineError(
        f"The adapter in {folder} cannot be a GGUF adapter: {why}.",
        "Leave out --as-adapter: a merged GGUF holds it.",
    )


def as_adapter(
    base_dir: Path,
    adapter_dir: Path,
    out: Path,
    log: Path,
    *,
    outtype: str = "f16",
    name: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Header:
    """Write the adapter as a GGUF adapter to `out`, and read it back.

    `base_dir` is a Hugging Face directory of the base. `name` and `metadata` are as for
    `gguf.convert`. On failure nothing is left at `out`.

    Raises:
        UsageError: `outtype` is not one of OUTTYPES.
        PipelineError: see `check_as_adapter`; llama.cpp's converter knows no such model; the disk
            is full. The message names the log.
    """
    if outtype not in OUTTYPES:
        raise UsageError(f"A GGUF adapter cannot be {outtype!r}.", f"One of {OUTTYPES}.")
    pairs = check_as_adapter(base_dir, adapter_dir)
    check_converter()
    alpha = common_alpha(pairs)
    request = {
        "base": str(base_dir.resolve()), "weights": str((adapter_dir / WEIGHTS).resolve()),
        "out": str(out.resolve()), "outtype": outtype, "alpha": alpha,
        "name": plain(name) or "adapter", "metadata": clean(metadata or {}),
        "pairs": [
            {"key": p.key, "a": p.a, "b": p.b, "transposed": p.transposed,
             "factor": p.scale * p.rank / alpha}
            for p in pairs
        ],
    }  # fmt: skip
    with removed_on_failure(out), tempfile.TemporaryDirectory() as scratch:
        plan = Path(scratch) / "plan.json"
        plan.write_text(json.dumps(request), encoding="utf-8")
        run_logged(
            python_module(WORKER, "convert", str(plan)),
            what="llama.cpp's converter", log=log, request="go",
        )  # fmt: skip
        return read_header(out)


def common_alpha(pairs: Sequence[Pair]) -> float:
    """The one alpha of the file: llama.cpp scales each update by alpha / its rank.

    That of most matrices, as PEFT scales them (rsLoRA by alpha / sqrt(rank)); the others' B is
    multiplied by what is left over.
    """
    return Counter(round(pair.scale * pair.rank, 9) for pair in pairs).most_common(1)[0][0]


def score_with_adapter(
    base: Path,
    adapter: Path | None,
    windows: Sequence[Sequence[int]],
    log: Path,
    *,
    masks: Sequence[Sequence[bool] | None] | None = None,
    threads: int | None = None,
) -> float:
    """Total nats of a base GGUF with an adapter GGUF on it (None: without), as `llama.score` has
    them.

    Raises PipelineError: they do not belong together, or a crash.
    """
    request = {
        "base": str(base.resolve()), "adapter": str(adapter.resolve()) if adapter else None,
        "windows": [list(window) for window in windows],
        "masks": [list(mask) if mask else None for mask in masks or [None] * len(windows)],
        "threads": threads or thread_count(),
    }  # fmt: skip
    nats: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        plan = Path(scratch) / "plan.json"
        plan.write_text(json.dumps(request), encoding="utf-8")
        run_logged(
            python_module(WORKER, "score", str(plan)),
            what="llama.cpp", log=log, request="go", on_line=lambda line: nats.append(float(line)),
        )  # fmt: skip
    return sum(nats)
