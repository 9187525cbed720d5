"""What a model of transformers expects at chosen places of the held-out text, logit by logit."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.console import progress
from pipeline.scoring.bits import Window, even_shares, evenly, nats_of

if TYPE_CHECKING:
    import torch

    from pipeline.export.logit_rows import Rows

PLACES = 1024
ROW_BYTES = 512 * 2**20  # of logits on the disk: fewer places for a large vocabulary
_WINDOWS = 16  # that places are chosen from
_EARLY = 512  # tokens of the longest of them


@dataclass(frozen=True)
class Sample:
    """Held-out windows, and the tokens of each that are looked at closely (indices above 0).

    `ends` are those of the places where a record or a document ends, as (window, index): an end
    token stands there.
    """

    windows: list[Window]
    places: list[list[int]]
    ends: list[tuple[int, int]]

    @property
    def count(self) -> int:
        """How many places there are."""
        return sum(map(len, self.places))

    @property
    def end_rows(self) -> list[int]:
        """Which of the places, counted through, are ends."""
        order = [(w, at) for w, places in enumerate(self.places) for at in places]
        chosen = set(self.ends)
        return [i for i, place in enumerate(order) if place in chosen]

    def shortened(self) -> "Sample":
        """The same places, with no more text than it takes to come to them; not to be scored."""
        kept = [(w, places) for w, places in zip(self.windows, self.places, strict=True) if places]
        windows = [
            replace(w, ids=w.ids[: p[-1] + 1], mask=w.mask and w.mask[: p[-1] + 1]) for w, p in kept
        ]
        return Sample(windows, [places for _, places in kept], [])

    def with_tokens(self, tokens: int) -> "Sample":
        """Whole windows that hold at least so many scored tokens, and the ends of documents.

        The windows that have places come first, as they are in the middle of the matter.
        """
        kept: list[int] = []
        scored = [i for i, window in enumerate(self.windows) if window.predicted]
        for i in sorted(scored, key=lambda i: (-len(self.places[i]), i)):
            if sum(self.windows[k].predicted for k in kept) >= tokens:
                break
            kept.append(i)
        kept = sorted({*kept, *(i for i in range(len(self.windows)) if i not in scored)})
        ends = [(kept.index(i), at) for i, at in self.ends if i in kept]
        return Sample([self.windows[i] for i in kept], [self.places[i] for i in kept], ends)


def choose_sample(
    windows: Sequence[Window],
    vocabulary: int,
    end_ids: Sequence[int] = (),
    tails: Sequence[Sequence[int]] = (),
) -> Sample:
    """All windows, to be scored, and the places to look at.

    Half of the places are in the first 512 tokens of the longest window; the others are the first
    of up to 15 more windows, so that a model can be asked in little time. `tails` are
    ids of the ends of documents, with the end token; nothing in them is scored.
    """
    chosen = list(windows)
    most = max(1, min(PLACES, ROW_BYTES // (4 * vocabulary)))
    places: list[list[int]] = [[] for _ in chosen]
    picked = _spread(list(range(len(chosen))), _WINDOWS)
    longest = max(picked, key=lambda i: len(chosen[i].ids))
    others = [i for i in picked if i != longest]
    predicted = _predicted(chosen[longest])
    early = [i for i in predicted if i <= _EARLY] or predicted
    places[longest] = _spread(early, max(1, most // 2) if others else most)
    shares = even_shares([len(_predicted(chosen[i])) for i in others], most - len(places[longest]))
    for i, share in zip(others, shares, strict=True):
        places[i] = _predicted(chosen[i])[:share]
    ends = [(i, at) for i in picked for at in [_end_of(chosen[i], end_ids)] if at is not None]
    for i, at in ends:
        places[i] = sorted({*places[i], at})
    for tail in tails:
        ends.append((len(chosen), len(tail) - 1))
        chosen.append(Window("", list(tail), 0, [False] * len(tail)))
        places.append([len(tail) - 1])
    return Sample(chosen, places, ends)


def _spread(items: Sequence[Any], at_most: int) -> list[Any]:
    """At most so many items, at even distances."""
    return list(evenly(items, at_most))


def _predicted(window: Window) -> list[int]:
    mask = window.mask or [True] * len(window.ids)
    return [i for i in range(1, len(window.ids)) if mask[i]]


def _end_of(window: Window, end_ids: Sequence[int]) -> int | None:
    """Where the end token follows the last scored token of a record; None if it does not."""
    predicted = _predicted(window)
    if window.mask is None or not predicted:
        return None
    at = predicted[-1] + 1
    return at if at < len(window.ids) and window.ids[at] in end_ids else None


def ask_model(
    model: Any,
    sample: Sample,
    *,
    autocast: "torch.dtype | None",
    what: str,
    path: Path,
    compare: bool = False,
    write: bool = True,
) -> tuple[float, "Rows"]:
    """Run a model over a sample: the nats that it pays for all scored tokens, and its rows.

    Its logits are compared with those in the file `path`, or written into it, or both.

    Raises:
        ValueError: the file was made with another vocabulary.
    """
    from pipeline.export.logit_rows import RowFile, Rows

    rows = Rows()
    waiting = iter(zip(sample.windows, sample.places, strict=True))

    def see(logits: "torch.Tensor") -> None:
        window, places = next(waiting)
        chosen = logits[0, [place - 1 for place in places]].float().cpu().numpy()
        rows.add(file.take(list(chosen), [window.ids[place] for place in places]))

    tokens = sum(len(window.ids) for window in sample.windows)
    with (
        RowFile(path, compare=compare, write=write) as file,
        _seen(model, see),
        progress(f"asking {what}", tokens, "tokens") as advance,
    ):
        lengths = iter(len(window.ids) for window in sample.windows)
        nats = nats_of(
            model, sample.windows, autocast=autocast,
            on_window=lambda _: advance(next(lengths)),
        )  # fmt: skip
    return sum(nats), rows


@contextmanager
def _seen(model: Any, see: Callable[["torch.Tensor"], None]) -> Iterator[None]:
    """Show the logits of each call of the model to `see`."""
    hook = model.register_forward_hook(lambda module, given, output: see(output.logits))
    try:
        yield
    finally:
        hook.remove()
