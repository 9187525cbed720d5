"""Arrays made from buffers are those that pyarrow makes."""

import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.arrow_arrays import make_array

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
KINDS = {
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(allow_nan=False),
    pa.bool_(): st.booleans(),
    pa.string(): TEXTS,
    pa.list_(pa.string()): st.lists(st.none() | TEXTS, max_size=3),
}


@pytest.mark.parametrize("kind", KINDS, ids=str)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_an_array_is_that_of_pyarrow(kind: Any, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.none() | KINDS[kind], max_size=20))
    made = make_array(values, kind)
    made.validate(full=True)
    assert made.equals(pa.array(values, kind))
    assert made.null_count == values.count(None)


def test_half_a_character_is_an_error_that_names_it() -> None:
    with pytest.raises(UnicodeEncodeError) as raised:
        make_array(["fine", "half \udc80"], pa.string())
    assert raised.value.object == "half \udc80"


def test_pandas_is_not_imported() -> None:
    program = (
        "import sys, pyarrow as pa; from pipeline.corpus.shards import *\n"
        "from pipeline.corpus.shards import _as_table, _pieces\n"
        "_as_table(list(_pieces(Chunks('84', b'text', [0], [4]), 100)))\n"
        "assert 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
