"""What tells one run from another, and with which of them another one may be gone on with.

    changes = compare(checkpoint, identity)
    if changes and not changes.harmless: ...

An identity says by name what decides the outcome of a run. Of a series it has the segments one by
one (`Segments.identity`), so that a run of the first ones can go on with those that came later.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.console import few
from pipeline.errors import PipelineError
from pipeline.training.checkpoints import Checkpoint
from pipeline.training.run_state import load_progress

SEGMENTS, HELD_OUT = "segments", "held_out"

# What may change in the middle of a run: how long it is, how often it is scored, and how much is
# computed at a time.
HARMLESS = frozenset(
    {"max_steps", "epochs", "tokens", "eval_every", "sample_tokens", "sample_prompts", "keep_best",
     "micro_batch_size", "gradient_checkpointing"}
)  # fmt: skip
# What else is other where a series has grown at its end: with the texts, those held out.
GROWN = frozenset({SEGMENTS, HELD_OUT})

Identity = Mapping[str, Any]


@dataclass(frozen=True)
class Changes:
    """What is other now than in another run: `told` by name; whether a run may go on with it."""

    told: Mapping[str, str]
    grew: bool
    harmless: bool

    def __bool__(self) -> bool:
        return bool(self.told)

    def __contains__(self, name: str) -> bool:
        return name in self.told

    def __str__(self) -> str:
        return "; ".join(self.told.values())

    @property
    def way_out(self) -> str:
        """What to do where they are refused."""
        if self.grew and not self.harmless:
            names = ", ".join(name for name in self.told if name not in HARMLESS | GROWN)
            return (
                f"To go on with it, set {names} as before and add --allow-changed; to start anew, "
                "--resume never."
            )
        if SEGMENTS in self and not self.harmless:
            return (
                "A series may only grow at its end. Which of its texts are held out may change as "
                "it grows, unless another source is for that (--source PLACE=0). To start anew, "
                "--resume never."
            )
        add = "add --allow-changed" if self.harmless else "set them as they were"
        return f"To go on with it, {add}; to start anew, --resume never."


def compare(other: Checkpoint, now: Identity) -> Changes:
    """What is other now than in the run of a checkpoint. Raises PipelineError if it cannot be read.

    Harmless is what `HARMLESS` has, and a series that has only got more segments at its end: each
    one that there was has the same name, place, number of sequences and content. Then other texts
    may be held out as well. It is too late for that once a run has begun its second pass over the
    series, in which the new segments would have come before.
    """
    before = other.about.get("identity", {})
    if not isinstance(before, dict):
        raise PipelineError(f"{other.path} does not say of which run it is.")
    told = differences(before, now)
    grew = False
    if SEGMENTS in told:
        found = growth(before.get(SEGMENTS), now.get(SEGMENTS))
        told[SEGMENTS], grew = found.told, found.grew
        if grew and load_progress(other.path).sequences > found.sequences:
            told[SEGMENTS] += ", which would have come before what the run has read again"
            grew = False
    return Changes(told, grew, told.keys() <= (HARMLESS | GROWN if grew else HARMLESS))


def going_on(now: Identity) -> Callable[[Checkpoint], bool]:
    """The question whether --allow-changed goes on with a checkpoint of another run; `compare`
    says what that may be. It raises PipelineError as that does."""
    return lambda other: compare(other, now).harmless


def differences(before: Identity, now: Identity) -> dict[str, str]:
    """What differs between two runs, by name: "learning_rate 0.001, now 0.002"."""
    found = {}
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if old != new:
            shown = [str(value)[:60] for value in (old, new)]
            found[name] = f"{name} {shown[0]}, now {shown[1]}"
    return found


@dataclass(frozen=True)
class Growth:
    """What became of a series: in a sentence; `grew` if it has only got segments at its end."""

    told: str
    grew: bool = False
    sequences: int = 0  # of one pass over what there was before


def growth(before: Any, now: Any) -> Growth:
    """Compare two series by `Segments.identity`: name, sequences and hash of each segment.

    `before` is out of a checkpoint, and may be anything. A series has grown if all that there was
    is there as it was and in its place, and more comes after it.
    """
    old, new = _known(before), _known(now)
    if old is None or new is None:
        what = "segments" if new else "no segments"
        return Growth(f"the data had {'segments' if old else 'no segments'}, now {what}")
    changed = [name for name, value in old.items() if name in new and new[name] != value]
    gone = [name for name in old if name not in new]
    fresh = [name for name in new if name not in old]
    told = [
        f"{what}: {few(names)}"
        for what, names in (("changed", changed), ("gone", gone), ("new", fresh)) if names
    ]  # fmt: skip
    in_place = list(new)[: len(old)] == list(old)
    if not in_place and not gone:
        told.append("what is new does not come last" if fresh else "their order is another")
    sequences = sum(size for size, _ in old.values())
    grew = in_place and not changed and bool(fresh)
    return Growth(f"segments ({'; '.join(told) or 'the same'})", grew, sequences)


def _known(value: Any) -> dict[str, tuple[int, str]] | None:
    """The size and hash of each segment by its name; None for what is no list of segments."""
    if not isinstance(value, list | tuple) or not value:
        return None
    found: dict[str, tuple[int, str]] = {}
    for entry in value:
        match entry:
            case [str(name), int(size), str(digest)] if name not in found and size > 0:
                found[name] = (size, digest)
            case _:
                return None
    return found
