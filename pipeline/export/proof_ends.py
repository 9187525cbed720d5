"""Whether a GGUF ends where the merged model does: after records, or after documents of a text."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.export.proof_subject import Subject

if TYPE_CHECKING:
    from pipeline.export.logit_rows import Rows

_UNLIKELY = 0.5  # of the probability by the merged model: less is not by chance


@dataclass(frozen=True)
class Ends:
    """The ends that were looked at, by their rows: those of the merged model, and of the GGUF."""

    is_text: bool
    places: list[int]
    merged: list[int]
    gguf: list[int]
    expected: float  # the mean probability of the end where the merged model ends, by that model
    found: float  # and by the GGUF
    probability: float | None  # by the GGUF at all ends; None where there are none

    @property
    def what(self) -> str:
        """What ends there."""
        return "documents" if self.is_text else "held-out records"

    @property
    def are_lost(self) -> bool:
        """Whether the GGUF no longer ends where the merged model does."""
        if not self.is_text:
            return len(self.gguf) < len(self.merged) / 2
        if self.gguf or not self.merged:
            return False
        # Of documents few ends are looked at: the loss of a single one may be chance.
        return len(self.merged) > 1 or self.found < _UNLIKELY * self.expected

    def told(self) -> dict[str, Any]:
        """What is recorded."""
        said: dict[str, Any] = {
            "places": len(self.places),
            "merged_model_ends": len(self.merged),
            "gguf_ends": len(self.gguf),
            "probability": self.probability,
            "stops_by_itself": None,
        }
        if not self.places:
            said["left_out"] = f"no ends of {self.what} are known"
        elif not self.merged:
            said["left_out"] = f"the merged model ends at none of {len(self.places)} {self.what}"
        return said


def compare_ends(subject: Subject, merged: "Rows", gguf: "Rows") -> Ends:
    """Look at the ends of a sample in what both models made of it."""
    sample = subject.sample
    wanted = dict(zip(sample.end_rows, _end_tokens(subject), strict=True))
    taught = [row for row, token in wanted.items() if merged.tops[row] == token]
    return Ends(
        subject.is_text,
        list(wanted),
        taught,
        [row for row, token in wanted.items() if gguf.tops[row] == token],
        _probability(merged, taught) or 0.0,
        _probability(gguf, taught) or 0.0,
        _probability(gguf, list(wanted)),
    )


def before_end(subject: Subject, row: int) -> list[int]:
    """The tokens that stand before the end of this row."""
    window, at = _order(subject)[row]
    return subject.sample.windows[window].ids[:at]


def _end_tokens(subject: Subject) -> list[int]:
    order = _order(subject)
    return [
        subject.sample.windows[window].ids[at]
        for window, at in (order[row] for row in subject.sample.end_rows)
    ]


def _order(subject: Subject) -> list[tuple[int, int]]:
    return [(w, at) for w, places in enumerate(subject.sample.places) for at in places]


def _probability(rows: "Rows", places: list[int]) -> float | None:
    """The mean probability of the tokens that stand there."""
    if not places:
        return None
    return sum(math.exp(-rows.nats[row]) for row in places) / len(places)
