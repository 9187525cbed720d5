"""The weights of a GGUF as safetensors of 16 bits, tensor by tensor.

transformers reads a GGUF as a whole. Here its own names, and what it does to each tensor, are
applied to one tensor after the other: the files are those that it would write.
"""

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.console import megabytes, say
from pipeline.gguf_reading import open_reader
from pipeline.tensor_files import SHARD_SIZE, Planned
from pipeline.training.configs import meta_model
from pipeline.training.whole_weights import kind_of, own_tensors, slices, write_whole

if TYPE_CHECKING:
    import numpy as np
    import torch
    from gguf import ReaderTensor


def write_gguf_weights(path: Path, out: Path) -> None:
    """Write the model in the GGUF `path` into the folder `out`, in bfloat16.

    Of an architecture that cannot be unpacked tensor by tensor all weights are in memory at a time,
    and it is said how much that is.

    Raises what the libraries raise for a file that they cannot read.
    """
    import torch
    from transformers import AutoConfig
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    with _quiet():
        found = load_gguf_checkpoint(path)["config"]
        config = type(AutoConfig.for_model(found["model_type"])).from_dict(found)
        model = meta_model(config).to(torch.bfloat16)
        homes = find_homes(path, model, found)
    if homes is None:
        size = sum(p.numel() for p in model.parameters()) * 2
        say(f"A GGUF of this kind is unpacked as a whole: {megabytes(size)} of memory at least.")
        _write_at_once(path, out)
        return
    kind = kind_of(torch.bfloat16)
    planned = [Planned(name, kind, home.shape) for name, home in homes.items()]
    with _quiet():
        write_whole(model, out, planned, lambda tensor: homes[tensor.name].pieces(), SHARD_SIZE)


@dataclass(frozen=True)
class Home:
    """Where a tensor of the model comes from: `tensor` is that of the GGUF, which `processor`,
    transformers' own for the architecture, turns into the one that is called `name`."""

    path: Path
    name: str
    shape: tuple[int, ...]
    tensor: "ReaderTensor"
    processor: Any

    def pieces(self) -> Iterator[Callable[[], "torch.Tensor"]]:
        """The tasks that make it in bfloat16: in slices, if it is as the GGUF has it."""
        if not self._stays():
            yield self._whole
            return
        for first, last in slices(self.shape):
            yield partial(self._rows, first, last)

    def _stays(self) -> bool:
        """Whether the processor gives back what it is given, as a small matrix shows."""
        import numpy as np

        rows = len(self.tensor.data)
        if len(self.shape) != 2 or self.tensor.data.ndim != 2 or rows != self.shape[0]:
            return False
        probe = np.ones((2, 2), np.float32)
        try:
            return self._processed(probe) is probe
        except (ValueError, IndexError, ArithmeticError):
            return False  # it counts on the size

    def _processed(self, weights: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any] | torch.Tensor":
        aside: dict[str, Any] = {}
        name = str(self.tensor.name)
        made = self.processor.process(
            weights=weights, name=name, tensor_key_mapping={name: self.name},
            parsed_parameters={"tensors": aside},
        )  # fmt: skip
        # Some put it there under its new name, rather than hand it over.
        kept: np.ndarray[Any, Any] | torch.Tensor = aside.get(self.name, made.weights)
        return kept

    def _whole(self) -> "torch.Tensor":
        import torch

        made = self._processed(self._read(0, len(self.tensor.data)))
        numbers = made if isinstance(made, torch.Tensor) else torch.tensor(made)
        if numbers.shape != self.shape:
            raise ValueError(
                f"{self.name} is {list(numbers.shape)} and not {list(self.shape)} numbers large"
            )
        return numbers.to(torch.bfloat16)

    def _rows(self, first: int, last: int) -> "torch.Tensor":
        import torch

        return torch.from_numpy(self._read(first, last)).to(torch.bfloat16)

    def _read(self, first: int, last: int) -> "np.ndarray[Any, Any]":
        """Rows in float32. Read and not mapped: what is mapped counts as this process's memory."""
        import numpy as np
        from gguf import dequantize

        data = self.tensor.data
        row = data.nbytes // max(1, len(data))
        with self.path.open("rb") as file:
            file.seek(int(self.tensor.data_offset) + first * row)
            raw = file.read((last - first) * row)
        packed = np.frombuffer(raw, np.uint8).view(data.dtype)
        rows = dequantize(packed.reshape(last - first, *data.shape[1:]), self.tensor.tensor_type)
        return rows if rows.flags.writeable else rows.copy()


def find_homes(path: Path, model: Any, found: dict[str, Any]) -> dict[str, Home] | None:
    """Where each tensor that `model` (without data) has in its files comes from; None if that is
    not one tensor of the GGUF each, or cannot be told. `found` are the settings that transformers
    reads in the GGUF.

    Raises ValueError if a tensor is of another size than these tell.
    """
    import torch
    from transformers import modeling_gguf_pytorch_utils as library
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.integrations.gguf.utils import is_gguf_arch_supported

    reader = open_reader(path)
    architecture = reader.fields["general.architecture"].contents()
    if (
        is_gguf_arch_supported(architecture)  # transformers reads it in another, newer way
        or get_model_conversion_mapping(model, add_legacy=False)
        or model._get_dtype_plan(torch.bfloat16)
    ):
        return None
    processor = library.TENSOR_PROCESSORS.get(architecture, library.TensorProcessor)(config=found)
    names = library.get_gguf_hf_weights_map(model, processor)
    wanted = own_tensors(model)
    homes = {
        name: Home(path, name, tuple(wanted[name].shape), tensor, processor)
        for tensor in reader.tensors
        if (name := names.get(tensor.name)) in wanted
    }
    for home in homes.values():
        if home.tensor.n_elements != wanted[home.name].numel():
            # transformers would write it, and nobody could load what it wrote.
            raise ValueError(
                f"{home.tensor.name} holds {home.tensor.n_elements:,} numbers, and its settings, as"
                f" transformers reads them, tell {wanted[home.name].numel():,}"
            )
    return homes if homes.keys() == wanted.keys() else None


def _write_at_once(path: Path, out: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    with _quiet():
        model = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            # Without it the packed weights are kept, and cannot be saved.
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.bfloat16,
        )
    model.save_pretrained(out)


def _quiet() -> contextlib.AbstractContextManager[object]:
    """Without the progress bars of the library, which know no other way off."""
    return contextlib.redirect_stderr(io.StringIO())
