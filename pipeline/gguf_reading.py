"""llama.cpp's own reader of GGUF files, made to skip long lists."""

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from gguf import GGUFReader

_LONGEST_LIST = 64  # metadata lists beyond this (tokens, scores, merges) are left out


def open_reader(path: Path, mode: Literal["r", "r+"] = "r") -> "GGUFReader":
    """llama.cpp's own reader of GGUF files, made to skip long lists.

    It would build an object for every token and every merge: 2 seconds for a vocabulary of 49,152.
    """
    from gguf import GGUFReader, GGUFValueType

    class Reader(GGUFReader):
        def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
            if raw_type != GGUFValueType.ARRAY or self.byte_order != "I":
                return super()._get_field_parts(orig_offs, raw_type)
            view = self.data.data
            kind, length = struct.unpack_from("=IQ", view, orig_offs)
            if length <= _LONGEST_LIST or kind == GGUFValueType.ARRAY:
                return super()._get_field_parts(orig_offs, raw_type)
            at = orig_offs + 12
            if kind == GGUFValueType.STRING:
                for _ in range(length):
                    at += 8 + struct.unpack_from("=Q", view, at)[0]
            else:
                at += length * self.gguf_scalar_to_np[GGUFValueType(kind)]().itemsize
            return at - orig_offs, [], [], [GGUFValueType.ARRAY]

    return Reader(path, mode)
