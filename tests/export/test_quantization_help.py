"""Whoever asks for help finds every type that llama.cpp has."""

from pipeline.export.quantization_help import type_help
from pipeline.export.quantizations import QUANTIZATIONS


def test_every_type_is_listed_with_its_size_and_a_word_or_why_it_is_not_made() -> None:
    introduction, table, others = type_help().split("\n\n")
    assert "q4_k_m by default" in introduction
    assert table.startswith("\b\n")
    lines = {line.split()[0]: line for line in table.splitlines()[1:]}
    for name, kind in QUANTIZATIONS.items():
        if kind.needs_importance_matrix:
            assert f" {name} " in others and name not in lines
        else:
            assert lines[name].endswith(kind.description)
            assert len(lines[name]) < 80
    assert lines["q4_k_m"].split()[1] == "4.9"
