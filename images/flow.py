"""Draw `images/flow.png`: the nine steps, what each does and which directory it fills.

make images
"""

from dataclasses import dataclass
from pathlib import Path

INK, PAPER, MUTED = "#22303c", "#fbfaf7", "#6b7680"
COLOURS = {"text": "#2f6f8f", "model": "#a3492f", "yours": "#5d7a3a"}
WIDTH, HEIGHT, GAP_X, GAP_Y = 3.1, 1.55, 0.62, 0.72


@dataclass(frozen=True)
class Step:
    """One box: its number, what one types, what it does, the directory it fills."""

    number: int
    name: str
    does: str
    directory: str
    colour: str


STEPS = (
    Step(1, "acquire", "books by topic, or any\ntexts of your own", "1_raw", "text"),
    Step(2, "preprocess", "licences and clutter out,\nparagraphs mended", "2_preprocessed", "text"),
    Step(3, "chunk", "cut at paragraphs, some\nbooks held out", "3_chunks", "text"),
    Step(4, "upload", "a dataset with its card,\npushed if you wish", "4_dataset", "text"),
    Step(5, "make setup", "this machine,\nor a rented GPU", "", "yours"),
    Step(6, "train", "a LoRA adapter on a base\nmodel; scored before, after", "6_adapter", "model"),
    Step(7, "quantize", "merged, turned to GGUF,\nquantized, proven to run", "7_gguf", "model"),
    Step(8, "modelfile", "ready for Ollama,\nwith a first answer", "8_ollama", "model"),
    Step(9, "publish", "the Hub, or the\nOllama registry", "", "yours"),
)
PLACES = {1: (0, 0), 2: (1, 0), 3: (2, 0), 4: (2, 1), 5: (1, 1), 6: (0, 1), 7: (0, 2), 8: (1, 2),
          9: (2, 2)}  # fmt: skip


def corner(number: int) -> tuple[float, float]:
    """The lower left corner of a step's box; the rows are read like a ploughed field."""
    column, row = PLACES[number]
    return column * (WIDTH + GAP_X), -row * (HEIGHT + GAP_Y)


def draw(path: Path) -> None:
    """Draw the picture and save it to `path`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import FancyBboxPatch

    figure, axes = plt.subplots(figsize=(10.4, 6.6), dpi=130)
    figure.patch.set_facecolor(PAPER)
    for step in STEPS:
        x, y = corner(step.number)
        colour = COLOURS[step.colour]
        axes.add_patch(
            FancyBboxPatch(
                (x, y),
                WIDTH,
                HEIGHT,
                boxstyle="round,pad=0,rounding_size=0.12",
                facecolor="white",
                edgecolor=colour,
                linewidth=1.6,
            )
        )
        axes.text(x + 0.16, y + HEIGHT - 0.3, str(step.number), color=colour, size=17,
                  weight="bold", va="center")  # fmt: skip
        axes.text(x + 0.52, y + HEIGHT - 0.3, step.name, color=INK, size=13, weight="bold",
                  family="monospace", va="center")  # fmt: skip
        axes.text(x + 0.16, y + 0.72, step.does, color=INK, size=10.5, va="center")
        if step.directory:
            axes.text(x + 0.16, y + 0.2, step.directory + "/", color=colour, size=10,
                      family="monospace", va="center")  # fmt: skip
    for number in range(1, len(STEPS)):
        arrow(axes, number)
    x, y = corner(2)
    axes.annotate(
        "clean by hand here: your edits are kept", (x + WIDTH / 2, y + HEIGHT),
        (x + WIDTH / 2, y + HEIGHT + 0.42), ha="center", color=COLOURS["yours"], size=10.5,
        arrowprops={"arrowstyle": "->", "color": COLOURS["yours"], "lw": 1.4},
    )  # fmt: skip
    axes.set_xlim(-0.15, 3 * WIDTH + 2 * GAP_X + 0.15)
    axes.set_ylim(-2 * (HEIGHT + GAP_Y) - 0.15, HEIGHT + 0.65)
    axes.set_aspect("equal")
    axes.axis("off")
    figure.savefig(path, bbox_inches="tight", facecolor=PAPER, metadata={"Software": None})


def arrow(axes: object, number: int) -> None:
    """An arrow from a step's box to the next one's."""
    (x, y), (to_x, to_y) = corner(number), corner(number + 1)
    if to_y < y:
        start, end = (x + WIDTH / 2, y), (to_x + WIDTH / 2, to_y + HEIGHT)
    elif to_x > x:
        start, end = (x + WIDTH, y + HEIGHT / 2), (to_x, y + HEIGHT / 2)
    else:
        start, end = (x, y + HEIGHT / 2), (to_x + WIDTH, y + HEIGHT / 2)
    axes.annotate(  # type: ignore[attr-defined]
        "", end, start, arrowprops={"arrowstyle": "-|>", "color": MUTED, "lw": 1.6}
    )


if __name__ == "__main__":
    draw(Path(__file__).with_name("flow.png"))
