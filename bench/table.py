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
