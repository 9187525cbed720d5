"""Model weights on the disk: safetensors files, read and written piece by piece.

Nothing is mapped into memory: a piece is read where it lies, worked on and written, so a model of
any size passes through the memory of one piece.
"""

import json
import shutil
import struct
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from pipeline.ahead import in_order
from pipeline.errors import PipelineError
from pipeline.files import atomic_path, read_json_object, write_json

if TYPE_CHECKING:
    import torch

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD_SIZE = 4_000_000_000  # bytes, as the large files of most published models
SPARE_DISK = 50_000_000  # bytes, for the tokenizer and other small files
# How safetensors calls the types of numbers, and how torch does.
DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
ITEM_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2}  # else 1
FLOATS = ("F64", "F32", "F16", "BF16")


class Source(Protocol):
    """A tensor that can be read in rows; of more than two dimensions, all but the last count
    as rows, and the numbers of a vector are rows of one number.

    `kind` is its type as safetensors calls it, `overhead` the memory that reading it takes
    besides the rows themselves, in bytes.
    """

    @property
    def kind(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def overhead(self) -> int: ...

    def rows(self, first: int, last: int) -> "torch.Tensor":
        """The rows from `first` to before `last`, as a matrix in memory of its own."""
        ...


@dataclass(frozen=True)
class Stored:
    """A tensor in a safetensors file, whose data begin at byte `start`."""

    path: Path
    name: str
    kind: str
    shape: tuple[int, ...]
    start: int
    overhead: int = 0

    def rows(self, first: int, last: int) -> "torch.Tensor":
        """See `Source`. Raises PipelineError if the file has become shorter."""
        import torch

        columns = as_matrix(self.shape)[1]
        row = columns * item_size(self.kind)
        buffer = torch.empty((last - first) * row, dtype=torch.uint8)
        view = _bytes_of(buffer)
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.start + first * row)
            while view.nbytes:
                count = file.readinto(view)
                if not count:
                    raise PipelineError(f"{self.path} changed while it was read: it is too short.")
                view = view[count:]
        return buffer.view(getattr(torch, DTYPES[self.kind])).view(last - first, columns)

    def whole(self) -> "torch.Tensor":
        """The tensor in its own shape."""
        return self.rows(0, as_matrix(self.shape)[0]).reshape(self.shape)


def as_matrix(shape: Sequence[int]) -> tuple[int, int]:
    """(rows, columns) in which a tensor of this shape is read and written."""
    if len(shape) < 2:
        return (shape[0] if shape else 1), 1
    rows = 1
    for length in shape[:-1]:
        rows *= length
    return rows, shape[-1]


def item_size(kind: str) -> int:
    """Bytes of one number."""
    return ITEM_SIZES.get(kind, 1)


def n_bytes(kind: str, shape: Sequence[int]) -> int:
    """Bytes of a tensor."""
    rows, columns = as_matrix(shape)
    return rows * columns * item_size(kind)


def read_file(path: Path, what: str) -> dict[str, Stored]:
    """The tensors of a safetensors file, by name, in the order in which they lie there.

    Reads the header only, which tells how long the file must be.

    Raises:
        PipelineError: the file is missing, damaged, cut short, or holds nothing; `what` is what
            the message calls it.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt"):
            pass  # the library's own check of header and length
        with path.open("rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
            header: dict[str, Any] = json.loads(file.read(length))
    except (SafetensorError, OSError, ValueError, struct.error) as error:
        raise PipelineError(
            f"The {what} {path} is damaged or not whole: {first_line(error)}.",
            "Copy or make it again.",
        ) from error
    header.pop("__metadata__", None)
    if not header:
        raise PipelineError(f"The {what} {path} holds no tensors.")
    entries = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    for name, entry in entries:
        if entry["dtype"] not in DTYPES:
            raise PipelineError(
                f"The tensor {name!r} in {path} is of the type {entry['dtype']}, which cannot be"
                " read here."
            )
    return {
        name: Stored(
            path,
            name,
            entry["dtype"],
            tuple(entry["shape"]),
            8 + length + entry["data_offsets"][0],
        )
        for name, entry in entries
    }


def read_folder(folder: Path, what: str) -> dict[str, Stored]:
    """The tensors of a model in `folder`: of model.safetensors, or of the shards in its index.

    Raises:
        PipelineError: there are none, a shard is missing or damaged, or lacks a tensor that the
            index places there.
    """
    if (folder / SINGLE).is_file():
        return read_file(folder / SINGLE, what)
    if not (folder / INDEX).is_file():
        raise PipelineError(
            f"The {what} in {folder} has no weights: neither {SINGLE} nor {INDEX} is there.",
            "Copy or make it again.",
        )
    places = read_json_object(folder / INDEX).get("weight_map")
    if not isinstance(places, dict) or not all(_is_plain(name) for name in places.values()):
        raise PipelineError(f"{folder / INDEX} is damaged: its weight_map names no files.")
    tensors: dict[str, Stored] = {}
    for file_name in sorted(set(places.values())):
        held = read_file(folder / file_name, what)
        lacking = [key for key, file in places.items() if file == file_name and key not in held]
        if lacking:
            raise PipelineError(
                f"The {what} {folder / file_name} lacks the tensor {lacking[0]!r}, which"
                f" {INDEX} places there.",
                "Copy or make it again.",
            )
        tensors |= {key: stored for key, stored in held.items() if places.get(key) == file_name}
    return tensors


def _is_plain(name: Any) -> bool:
    """Whether it is the name of a file, with no folder: an index comes from a stranger."""
    return isinstance(name, str) and Path(name).name == name and "\\" not in name


def first_line(error: BaseException) -> str:
    """What an exception says, short enough for a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")[:300]


@dataclass(frozen=True)
class Planned:
    """A tensor that is to be written."""

    name: str
    kind: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return n_bytes(self.kind, self.shape)


def check_disk(folder: Path, needed: int) -> None:
    """Raise PipelineError unless the disk of `folder` has room for so many bytes."""
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed + SPARE_DISK:
        raise PipelineError(
            f"The merged model needs {(needed + SPARE_DISK) / 1e9:,.2f} GB in {folder}, but only"
            f" {free / 1e9:,.2f} GB are free there:"
            f" {(needed + SPARE_DISK - free) / 1e9:,.2f} GB are missing.",
            "Delete something there, or write to another disk.",
        )


Pieces = Callable[[Planned], Iterable[Callable[[], "torch.Tensor"]]]


def plan_shards(tensors: Sequence[Planned], shard_size: int) -> list[list[Planned]]:
    """Spread tensors over files of at most `shard_size` bytes; one that is larger has its own."""
    shards: list[list[Planned]] = [[]]
    filled = 0
    for tensor in tensors:
        if shards[-1] and filled + tensor.size > shard_size:
            shards.append([])
            filled = 0
        shards[-1].append(tensor)
        filled += tensor.size
    # The widest numbers first, as safetensors itself does it: so each lies on a multiple of its
    # own size, which readers that map the file rely on.
    return [sorted(shard, key=lambda tensor: -item_size(tensor.kind)) for shard in shards]


def write_folder(
    folder: Path,
    tensors: Sequence[Planned],
    pieces: Pieces,
    *,
    shard_size: int = SHARD_SIZE,
    on_tensor: Callable[[int], object] = lambda _: None,
) -> list[Path]:
    """Write a model's weights to `folder` as safetensors, in shards with an index if need be.

    Each file bears its name only when it is whole and on the disk. `pieces` gives the tasks that
    make the data of a tensor, piece by piece and in order; they run ahead in threads. `on_tensor`
    is told the size of each tensor that is written.
    """
    shards = plan_shards(tensors, shard_size)
    paths: list[Path] = []
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = SINGLE
        if len(shards) > 1:
            name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        with atomic_path(folder / name) as temporary, temporary.open("wb", buffering=0) as file:
            write_stream(file, shard, pieces, on_tensor)
        paths.append(folder / name)
        places |= {tensor.name: name for tensor in shard}
    if len(shards) > 1:
        total = sum(tensor.size for tensor in tensors)
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": places})
        paths.append(folder / INDEX)
    return paths


def write_stream(
    file: BinaryIO,
    tensors: Sequence[Planned],
    pieces: Pieces,
    on_tensor: Callable[[int], object] = lambda _: None,
) -> None:
    """Write one safetensors file: the length of the header, the header, and the data as it comes.

    Raises ValueError if the pieces of a tensor do not add up to its size.
    """
    file.write(encode_header(tensors))
    made = in_order(task for tensor in tensors for task in pieces(tensor))
    with closing(made):  # so that no thread is left behind
        for tensor in tensors:
            left = tensor.size
            while left > 0:
                piece = next(made, None)
                data = _bytes_of(piece.contiguous()) if piece is not None else memoryview(b"")
                left -= data.nbytes
                if not data.nbytes or left < 0:
                    raise ValueError(f"the pieces of {tensor.name} do not make {tensor.size} bytes")
                while data.nbytes:
                    data = data[file.write(data) :]
            on_tensor(tensor.size)
        if next(made, None) is not None:
            raise ValueError("there are more pieces than tensors")


def _bytes_of(tensor: "torch.Tensor") -> memoryview:
    """The memory of a contiguous tensor, to be read from or written to."""
    import torch

    numbers: Any = tensor.reshape(-1).view(torch.uint8).numpy()
    return memoryview(numbers)


def encode_header(tensors: Sequence[Planned]) -> bytes:
    """The beginning of a safetensors file that holds these tensors one after the other."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for tensor in tensors:
        header[tensor.name] = {
            "dtype": tensor.kind,
            "shape": list(tensor.shape),
            "data_offsets": [at, at + tensor.size],
        }
        at += tensor.size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # so that the data begin on a multiple of 8
    return struct.pack("<Q", len(text)) + text
