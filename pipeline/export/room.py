"""Room on the disk: how much stage 7 needs at its peak, told before it starts.

    with told_if_full(folder, scratch) as needed:   # if the disk fills up all the same, says so
        needed.room = room_needed(base.path, adapter, ["q4_k_m", "q8_0"], is_proven=True)
        needed.room.check(folder)                   # refuses with the amount that is missing
        ...

Three things lie there one after the other: the merged model, the GGUF in 16 bits that is made of
it, and the quantized files. Each is deleted as soon as what was made of it is proven, so the peak
is the first two together, or the last two; beside them the logits that the files are held against.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.export.adapter_files import read_adapter
from pipeline.export.bases import read_base
from pipeline.export.companions import has_tokenizer, read_base_changes, text_part
from pipeline.export.kinds import Kinds
from pipeline.export.process import way_out
from pipeline.export.proof_logits import PLACES, ROW_BYTES
from pipeline.export.quantizations import QUANTIZATIONS
from pipeline.export.whole_model import holds_model
from pipeline.files import is_disk_full, read_json_object
from pipeline.tensor_files import Source, item_size, read_folder

MARGIN = 0.03  # of the peak, and SPARE: logs, the proof, what other programs write meanwhile
SPARE = 50_000_000  # bytes
FULL = way_out("no space left")

# Bits for each number of the types that tensors have: of a block of 256, of 32, or of one.
BLOCKS = {
    "q6_k": 6.5625, "q5_k": 5.5, "q4_k": 4.5, "q3_k": 3.4375, "q2_k": 2.625, "iq4_xs": 4.25,
    "iq3_s": 3.4375, "iq3_xxs": 3.0625, "iq2_s": 2.5625, "tq2_0": 2.0625, "tq1_0": 1.6875,
}  # fmt: skip
SMALL_BLOCKS = {
    "q8_0": 8.5, "q5_1": 6.0, "q5_0": 5.5, "q4_1": 5.0, "q4_0": 4.5, "iq4_nl": 4.5, "mxfp4": 4.25,
    "q2_0": 2.25, "q1_0": 1.125,
}  # fmt: skip
WIDE = {"f32": 32.0, "bf16": 16.0, "f16": 16.0}
BITS = BLOCKS | SMALL_BLOCKS | WIDE
# What llama.cpp takes for a row that does not divide into blocks of 256.
INSTEAD = {"q6_k": "q8_0", "q5_k": "q5_1", "q4_k": "q5_0", "q3_k": "q4_0", "q2_k": "q4_0",
           "tq2_0": "q4_0", "tq1_0": "q4_0"}  # fmt: skip
# A file type is a mixture: most matrices are of the first type, those that matter most of the
# second. How many these are follows from the bits that the file type has on average.
MIXTURES = {
    "q5_k_m": ("q5_k", "q6_k"), "q5_k_s": ("q5_k", "q5_k"), "q4_k_m": ("q4_k", "q6_k"),
    "q4_k_s": ("q4_k", "q5_k"), "iq4_nl": ("iq4_nl", "q5_k"), "iq4_xs": ("iq4_xs", "q5_k"),
    "q3_k_l": ("q3_k", "q5_k"), "q3_k_m": ("q3_k", "q4_k"), "q3_k_s": ("q3_k", "q3_k"),
    "iq3_m": ("iq3_s", "q4_k"), "iq3_s": ("iq3_s", "q4_k"), "q2_k": ("q2_k", "q3_k"),
    "mxfp4_moe": ("q8_0", "q8_0"),  # of a dense model; experts are smaller
}  # fmt: skip
# The model that these averages are of, Llama 3.1 8B: numbers in all, and in each end.
_AVERAGED, _END = 8.03e9, 0.525e9


@dataclass(frozen=True)
class Room:
    """Bytes: of the merged model, of the GGUF in 16 bits, of each file that is asked for, and of
    the logits that these are proven by."""

    merged: int
    plain: int
    files: Mapping[str, int]
    logits: int = 0

    @property
    def peak(self) -> int:
        """The most that lies on the disk at once, with a margin."""
        most = max(self.merged + self.plain, self.plain + sum(self.files.values()))
        return round((most + self.logits) * (1 + MARGIN)) + SPARE

    def describe(self) -> str:
        """What lies there, in words."""
        sizes = {"merged model": self.merged, "GGUF in 16 bits": self.plain, **self.files}
        if self.logits:
            sizes["logits for the proof"] = self.logits
        return ", ".join(f"{what} {_size(size)}" for what, size in sizes.items())

    def check(self, folder: Path) -> None:
        """Raise PipelineError, with the amount that is missing, unless the disk of `folder`, which
        need not be there yet, has room."""
        _check(folder, self.peak, self.describe())


@dataclass
class Needed:
    """What a run of stage 7 needs on the disk, as far as that is known: bytes of a checkpoint when
    it is unpacked, and what is made of it."""

    unpacked: int = 0
    room: Room | None = None

    @property
    def peak(self) -> int:
        """Bytes that lie there at once."""
        return self.unpacked + (self.room.peak if self.room else SPARE)

    def describe(self) -> str:
        """What lies there, in words."""
        told = [f"unpacked checkpoint {_size(self.unpacked)}"] if self.unpacked else []
        return ", ".join([*told, *([self.room.describe()] if self.room else [])])

    def unpack(self, weights: int, folder: Path) -> None:
        """Note that weights of so many bytes, in float32, are to become a model of 16 bits.

        Raises PipelineError if the disk of `folder` has no room for that alone.
        """
        self.unpacked = weights // 2
        _check(folder, self.peak, self.describe())

    def is_made(self, kind: str) -> None:
        """Note that a file is there to stay: no later run needs room for it."""
        if self.room:
            files = {name: size for name, size in self.room.files.items() if name != kind}
            self.room = replace(self.room, files=files)


@contextmanager
def told_if_full(folder: Path, own: Path) -> Iterator[Needed]:
    """Whatever of the block fails because the disk of `folder` is full ends as one sentence that
    says about how much is missing for all that the block noted as needed.

    `own` is the folder with what this run wrote there, which goes when the run ends.

    Raises PipelineError.
    """
    needed = Needed()
    try:
        yield needed
    except Exception as error:
        is_told = isinstance(error, PipelineError) and error.hint == FULL
        if not is_told and not is_disk_full(error):
            raise
        what = f" ({needed.describe()})" if needed.describe() else ""
        raise PipelineError(
            f"The disk of {folder} is full: about"
            f" {_size(lacking(needed.peak, folder, own))} more are needed{what}."
            " The adapter is as it was, and no file is left unfinished.",
            "Make room there, or name another place with --data-dir, and run the same command"
            " again.",
        ) from error


def lacking(needed: int, folder: Path, own: Path) -> int:
    """About how many bytes are missing on the disk of `folder`, which is full, until there is room
    for `needed`: that of the files in `own` is had again when the run ends."""
    free, held = shutil.disk_usage(_existing(folder)).free, 0
    for path in own.rglob("*"):
        with suppress(OSError):  # a process that failed tidies up meanwhile
            held += path.stat().st_size if path.is_file() else 0
    return max(needed - free - held, SPARE)


def _check(folder: Path, needed: int, what: str) -> None:
    free = shutil.disk_usage(_existing(folder)).free
    if free < needed:
        raise PipelineError(
            f"Stage 7 needs {_size(needed)} in {folder} at its peak ({what}), but only"
            f" {_size(free)} are free there: {_size(needed - free)} are missing.",
            "Make room there, name another place with --data-dir, or ask for fewer types.",
        )


def room_needed(
    base_dir: Path,
    adapter_dir: Path,
    kinds: Sequence[str],
    *,
    merge_base: Path | None = None,
    dtype: str | None = None,
    is_proven: bool = False,
) -> Room:
    """What it takes to merge (to `dtype`, see `merge_adapter`), convert and quantize, and to prove
    the files if they are; from names and shapes only.

    Raises PipelineError: base or adapter are missing or damaged.
    """
    if holds_model(adapter_dir):
        folder, tokenizer = adapter_dir, adapter_dir if has_tokenizer(adapter_dir) else base_dir
        tensors: Mapping[str, Source] = read_folder(adapter_dir, "trained model")
        new = 0
    else:
        read_adapter(adapter_dir)
        folder = merge_base or base_dir
        new = len(read_base_changes(adapter_dir).extra_tokens)
        tokenizer = adapter_dir if new else base_dir
        tensors = read_base(folder, read_json_object(folder / "config.json"))
    config = read_json_object(folder / "config.json")
    tied = bool(text_part(config).get("tie_word_embeddings", config.get("tie_word_embeddings")))
    head = _vocabulary_bytes(tokenizer)
    written = Kinds(config, tensors, dtype)
    merged = sum(
        prod(source.shape) * item_size(written.of(source, True)) for source in tensors.values()
    )
    ends = {name: source for name, source in tensors.items() if _is_end(name)}
    width = next((source.shape[-1] for source in ends.values()), 0)
    merged += item_size(written.target) * new * width * len(ends)
    files = {kind: _file_bytes(kind, tensors, tied, new) + head for kind in kinds}
    plain = _file_bytes("bf16", tensors, tied, new) + head
    words = new + max((source.shape[0] for source in ends.values()), default=0)
    logits = min(4 * PLACES * words, ROW_BYTES) if is_proven else 0
    return Room(merged + head, plain, files, logits)


def _file_bytes(kind: str, tensors: Mapping[str, Source], tied: bool, new: int) -> int:
    """Bytes of the tensors of a GGUF of that type, `new` rows added to the ends."""
    total = 0.0
    for name, source in tensors.items():
        numbers = prod(source.shape)
        if len(source.shape) < 2:
            total += 4 * numbers
        elif not _is_end(name):
            total += numbers * _layer_bits(kind, source.shape[-1]) / 8
        elif not (tied and _is_head(name)):  # some store both, though they are one
            numbers += new * source.shape[-1]
            total += numbers * _end_bits(kind, source.shape[-1], tied or _is_head(name)) / 8
    return round(total)


def _is_end(name: str) -> bool:
    """Whether it is the embedding or the output head, by the names that these have."""
    return _is_head(name) or name.endswith(
        ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
    )


def _is_head(name: str) -> bool:
    return name.endswith(("lm_head.weight", "embed_out.weight", "output.weight"))


def _mixture(kind: str) -> tuple[str, str]:
    return MIXTURES.get(kind, (kind, kind))


def _in_rows(tensor_type: str, columns: int) -> float:
    """Bits for each number, in rows of so many."""
    if tensor_type in BLOCKS and columns % 256:
        tensor_type = INSTEAD.get(tensor_type, "iq4_nl")
    if tensor_type not in WIDE and columns % 32:
        tensor_type = "f16"
    return BITS[tensor_type]


def _end_bits(kind: str, columns: int, is_output: bool) -> float:
    first, _ = _mixture(kind)
    if kind in WIDE or kind == "mxfp4_moe":
        return BITS[first]
    if not is_output:
        return _in_rows("q4_k" if kind in ("tq1_0", "tq2_0", "q2_0") else first, columns)
    if first == "q8_0" or (first in BLOCKS and columns % 256):
        return _in_rows("q8_0", columns)
    return _in_rows("q6_k", columns)


def _layer_bits(kind: str, columns: int) -> float:
    first, second = _mixture(kind)
    low, high = BITS[first], BITS[second]
    average = QUANTIZATIONS[kind].bits
    ends = _END * (_end_bits(kind, 4096, False) + _end_bits(kind, 4096, True))
    inner = (average * _AVERAGED - ends) / (_AVERAGED - 2 * _END)
    share = min(1.0, max(0.0, (inner - low) / (high - low))) if high != low else 0.0
    return (1 - share) * _in_rows(first, columns) + share * _in_rows(second, columns)


def _vocabulary_bytes(folder: Path) -> int:
    """About what the tokenizer takes in a GGUF's header."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return sum(file.stat().st_size for file in folder.glob("*.model"))
    try:
        model = json.loads(path.read_text("utf-8"))["model"]
        merges = [m if isinstance(m, str) else " ".join(m) for m in model.get("merges") or ()]
        tokens = [t if isinstance(t, str) else t[0] for t in model.get("vocab") or ()]
        # Each text has its length before it, each token a type, and where they are weighed a score.
        each = 4 if merges else 8
        texts = sum(len(text.encode("utf-8", "replace")) + 8 for text in [*tokens, *merges])
        return texts + each * len(tokens)
    except (ValueError, KeyError, TypeError, AttributeError):
        return path.stat().st_size


def _existing(folder: Path) -> Path:
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return place


def _size(size: int) -> str:
    return f"{size / 1e9:,.2f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
