"""The names of quantizations are checked before any work."""

import json
import re
import subprocess
import sys

import pytest

from pipeline.errors import EXIT_USAGE, UsageError
from pipeline.export.quantizations import QUANTIZATIONS, check_quantization


@pytest.mark.parametrize("name", ["q4_k_m", "Q4_K_M", "q4-k-m", " q4_k_m ", "q4_k"])
def test_names_are_read_as_people_write_them(name: str) -> None:
    assert check_quantization(name).name == "q4_k_m"


@pytest.mark.parametrize(
    ("typo", "meant"), [("q4km", "q4_k_m"), ("q8", "q8_0"), ("fp16", "f16"), ("bfloat16", "bf16")]
)
def test_unknown_name_gets_the_nearest(typo: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"no quantization called '{typo}'") as raised:
        check_quantization(typo)
    assert meant in str(raised.value.hint)
    assert raised.value.exit_code == EXIT_USAGE


def test_name_like_nothing_gets_the_whole_list() -> None:
    with pytest.raises(UsageError) as raised:
        check_quantization("????")
    assert all(name in str(raised.value.hint) for name in QUANTIZATIONS)


def test_types_that_need_an_importance_matrix_are_refused_with_a_neighbour() -> None:
    with pytest.raises(UsageError, match="iq2_xs needs an importance matrix") as raised:
        check_quantization("iq2_xs")
    assert "q2_k" in str(raised.value.hint)


def test_table_is_the_quantizers_own() -> None:
    """Every number is llama.cpp's, and none that its quantizer takes is missing."""
    code = "import json, llama_cpp; print(json.dumps(vars(llama_cpp), default=str))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    theirs = {
        re.sub("LLAMA_FTYPE_(ALL|MOSTLY)_", "", name).lower(): value
        for name, value in json.loads(answer.stdout).items()
        if name.startswith("LLAMA_FTYPE_") and not name.endswith("GUESSED")
    }
    del theirs["nvfp4"]  # the quantizer refuses it: "invalid output file type 39"
    assert {q.name: q.ftype for q in QUANTIZATIONS.values()} == theirs


def test_every_type_has_bits_and_a_word() -> None:
    for name, quantization in QUANTIZATIONS.items():
        assert quantization.name == name == name.lower()
        assert 1 <= quantization.bits <= 32
        assert quantization.description
