"""Figures of several runs as a table: mean and standard deviation."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and the sample standard deviation (0 of a single value)."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def speed_table(measured: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """A table for `printing.print_table` with a row for each thing that was measured."""
    columns = ["measured", "runs", "mean", "std", "min", "max"]
    return {
        "columns": columns,
        "rows": [
            dict(zip(columns, (name, str(len(values)), *map(_figure, _of(values))), strict=True))
            for name, values in measured.items()
        ],
    }


def speed_figures(measured: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The same as plain values, for JSON."""
    return {
        name: dict(zip(("mean", "std", "min", "max"), _of(values), strict=True))
        | {"runs": list(values)}
        for name, values in measured.items()
    }


def _of(values: Sequence[float]) -> tuple[float, float, float, float]:
    return (*mean_and_deviation(values), min(values), max(values))


def _figure(value: float) -> str:
    return f"{value:,.1f}" if value >= 10 else f"{value:,.3f}"
