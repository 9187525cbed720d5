"""How the benchmarks print: seconds and ratios, nothing else."""

import sys
from collections.abc import Mapping, Sequence


def print_ratios(medians: Mapping[str, float], pairs: Sequence[tuple[str, str]]) -> None:
    """Print each median in seconds, then how many times faster the second of each pair is."""
    width = max(map(len, medians))
    for name, value in medians.items():
        sys.stdout.write(f"{name:<{width}}  {value:8.2f} s\n")
    for slow, fast in pairs:
        sys.stdout.write(f"{slow} / {fast}: {medians[slow] / medians[fast]:.1f}\n")


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table in Markdown, figures (all columns but the first) to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    for row in (head, rule, *rows):
        first, *others = (
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        sys.stdout.write(f"| {' | '.join([first, *others])} |\n")
    sys.stdout.flush()
