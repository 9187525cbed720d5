"""Arrow arrays of Python values, made from their buffers.

`pyarrow.array` does the same, but where pandas is installed it imports that first, which takes
longer than to write a file.
"""

from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import Any


def make_array(values: Sequence[Any], kind: Any) -> Any:
    """The values, or None for null, as an Arrow array of the type `kind`: integers of 32 or 64
    bits, floats of 64, booleans, strings, or lists of one of these.

    Raises UnicodeEncodeError for a string with a lone surrogate, OverflowError for a number that
    is too large.
    """
    import pyarrow as pa

    is_there = [value is not None for value in values]
    buffers = [None if all(is_there) else _bits(is_there)]
    children = []
    if pa.types.is_list(kind):
        lists = [value or () for value in values]
        buffers.append(_offsets(lists))
        children = [make_array([each for some in lists for each in some], kind.value_type)]
    elif pa.types.is_string(kind):
        texts = [(value or "").encode() for value in values]
        buffers += [_offsets(texts), pa.py_buffer(b"".join(texts))]
    elif pa.types.is_boolean(kind):
        buffers.append(_bits([bool(value) for value in values]))
    else:
        code = {pa.int32(): "i", pa.int64(): "q", pa.float64(): "d"}[kind]
        buffers.append(pa.py_buffer(array(code, [value or 0 for value in values])))
    return pa.Array.from_buffers(kind, len(values), buffers, children=children)


def _offsets(values: Sequence[Any]) -> Any:
    """Where each value begins among all of them, and where the last one ends."""
    import pyarrow as pa

    return pa.py_buffer(array("i", accumulate(map(len, values), initial=0)))


def _bits(flags: list[bool]) -> Any:
    import numpy as np
    import pyarrow as pa

    return pa.py_buffer(np.packbits(np.array(flags, bool), bitorder="little"))
