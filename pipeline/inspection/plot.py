"""The sizes of chunks and documents as a picture."""

import warnings
from pathlib import Path
from typing import Any

from pipeline.console import printable
from pipeline.corpus.statistics import SPLITS
from pipeline.files import atomic_path
from pipeline.inspection.survey import Inspection
from pipeline.inspection.tables import shortened, visible

COLOURS = {"train": "#1f4e79", "validation": "#c8553d"}
NAMED_DOCUMENTS = 25  # so many have a bar each, with their title; more are counted by size
BINS = 40


def draw(found: Inspection, path: Path) -> None:
    """Draw both distributions, split by split, as a PNG; whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(12, 5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    chunks, documents = figure.subplots(1, 2)
    _draw_chunks(chunks, found)
    if len(found.documents) <= NAMED_DOCUMENTS:
        _draw_named(documents, found)
    else:
        _draw_counted(documents, found)
    documents.xaxis.set_major_formatter(EngFormatter(sep=""))
    for axes in (chunks, documents):
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(length=0)
        axes.margins(x=0.02)
    place = "lower right" if len(found.documents) <= NAMED_DOCUMENTS else "best"
    documents.legend(*chunks.get_legend_handles_labels(), frameon=False, loc=place, title="chunks")
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a title in a script that the font does not have
        figure.savefig(temporary, format="png")


def _draw_chunks(axes: Any, found: Inspection) -> None:
    measured = found.chunk_tokens if found.unit == "tokens" else found.chunk_sizes
    values = [measured[split].values() for split in SPLITS]
    axes.hist(
        values, bins=BINS, stacked=True, color=[COLOURS[split] for split in SPLITS],
        label=[f"{split} ({len(sizes):,})" for split, sizes in zip(SPLITS, values, strict=True)],
    )  # fmt: skip
    for name, word in (("minimum_size", "minimum"), ("chunk_size", "target")):
        limit = found.settings.get(name)
        if isinstance(limit, int):
            axes.axvline(limit, color="#777777", linewidth=1, linestyle=(0, (4, 4)))
            axes.text(
                limit, 1.0, word, transform=axes.get_xaxis_transform(), ha="center", va="bottom",
                color="#777777", fontsize=9,
            )  # fmt: skip
    axes.set_title("Chunks by size", loc="left", fontsize=12, pad=16)
    axes.set_xlabel(found.unit)
    axes.set_ylabel("chunks")
    axes.grid(axis="y", color="#e6e6e6")


def _draw_named(axes: Any, found: Inspection) -> None:
    ordered = sorted(found.documents.items(), key=lambda item: item[1].total)
    names = [shortened(printable(visible(d.title or name)), 40) for name, d in ordered]
    left = [0] * len(ordered)
    for split in SPLITS:
        sizes = [d.characters.get(split, 0) for _, d in ordered]
        axes.barh(range(len(ordered)), sizes, left=left, color=COLOURS[split])
        left = [a + b for a, b in zip(left, sizes, strict=True)]
    axes.set_yticks(range(len(ordered)), names, parse_math=False)
    axes.set_title("Documents by size", loc="left", fontsize=12, pad=16)
    axes.set_xlabel("characters")
    axes.set_xlim(right=1.05 * max(left))
    axes.grid(axis="x", color="#e6e6e6")


def _draw_counted(axes: Any, found: Inspection) -> None:
    import numpy as np

    documents = [d for d in found.documents.values() if d.total]
    sizes = [d.total for d in documents]
    edges = np.geomspace(min(sizes), max(sizes) + 1, BINS + 1)
    values = [[d.total for d in documents if d.split.startswith(split)] for split in SPLITS]
    axes.hist(values, bins=edges, stacked=True, color=[COLOURS[split] for split in SPLITS])
    axes.set_xscale("log")
    axes.set_title(f"Documents by size ({len(sizes):,})", loc="left", fontsize=12, pad=16)
    axes.set_xlabel("characters")
    axes.set_ylabel("documents")
    axes.grid(axis="y", color="#e6e6e6")
