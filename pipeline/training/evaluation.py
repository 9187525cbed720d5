"""How a model does on what is held out, again and again during a run, and what it writes."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.console import progress
from pipeline.errors import PipelineError
from pipeline.files import encode_json
from pipeline.scoring.bits import Score, Window, nats_of, total
from pipeline.scoring.samples import complete_all

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

EVALUATIONS = "evaluations.jsonl"
NO_SOURCE = "(no source)"


class Interrupted(Exception):
    """An evaluation was asked to end early; nothing of it was kept."""


@dataclass(frozen=True)
class Evaluation:
    """What the model was worth at a step: 0 is before training.

    `by_source` is {} where there is but one source; its scores add up to `score`. `samples` are
    what the model wrote after each prompt, and `seconds` what all this took.
    """

    step: int
    score: Score
    by_source: dict[str, Score]
    samples: list[str]
    seconds: float

    def as_dict(self, what: str) -> dict[str, Any]:
        """The line of `evaluations.jsonl` for the evaluation of `what`."""
        return {
            "step": self.step,
            "what": what,
            "bits_per_byte": self.score.bits_per_byte,
            "loss": self.score.loss,
            "perplexity": self.score.perplexity,
            "nats": self.score.nats,
            "tokens": self.score.tokens,
            "bytes": self.score.n_bytes,
            "by_source": {
                name: {"bits_per_byte": score.bits_per_byte, "loss": score.loss,
                       "nats": score.nats, "tokens": score.tokens, "bytes": score.n_bytes}
                for name, score in self.by_source.items()
            },
            "samples": self.samples,
            "seconds": round(self.seconds, 3),
        }  # fmt: skip


class Evaluator:
    """Scores a model on the same windows and has it continue the same prompts each time.

    Args:
        sources: the name of the source of each document that the windows are of.
        prompts: texts, or token ids for a chat in its template.
        sample_tokens: how far the model goes on from a prompt.
        seed: same seed, same samples.
        autocast: what to compute in; None leaves it to the model.
        folder: gets `evaluations.jsonl`, a line for each evaluation.
        asked: the prompts as people read them, for the file: texts, or the turns of a chat.

    Raises PipelineError if there is nothing to score on.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        held_out: Sequence[Window],
        sources: Mapping[str, str | None],
        prompts: Sequence[str | Sequence[int]],
        *,
        sample_tokens: int,
        seed: int,
        autocast: "torch.dtype | None",
        folder: Path,
        asked: Sequence[Any] = (),
    ) -> None:
        if not any(window.predicted for window in held_out):
            raise PipelineError(
                "There is no held-out text to score.",
                "The validation split is empty or has no text: hold out at least one book.",
            )
        self._tokenizer = tokenizer
        self._held_out = list(held_out)
        self._sources = dict(sources)
        self._prompts = list(prompts)
        self._sample_tokens = sample_tokens
        self._seed = seed
        self._autocast = autocast
        self._path = folder / EVALUATIONS
        self._asked = list(asked)

    def evaluate(
        self, model: Any, step: int, what: str, stop: Callable[[], bool] | None = None
    ) -> Evaluation:
        """Score and sample the model as it is now, and keep the result in the file.

        Modes of the model's parts, gradients and torch's random state stay as they are. `stop` is
        asked before every window, and every token that is written: a machine that goes away gives
        half a minute, and this may take many.

        Raises PipelineError if the loss on the held-out text is no finite number, and Interrupted
        if `stop` says so.
        """
        start = time.perf_counter()
        tokens = sum(window.predicted for window in self._held_out)
        with _heeding(stop, model):
            with progress(f"Scoring {what}", tokens, "tokens") as advance:
                nats = nats_of(model, self._held_out, autocast=self._autocast, on_window=advance)
            score = total(self._held_out, nats)
            samples = complete_all(
                model, self._tokenizer, self._prompts, max_new_tokens=self._sample_tokens,
                seed=self._seed, autocast=self._autocast,
            )  # fmt: skip
        evaluation = Evaluation(
            step, score, scores_by_source(self._held_out, nats, self._sources), samples,
            time.perf_counter() - start,
        )  # fmt: skip
        append_evaluation(self._path, evaluation, what, self._asked)
        return evaluation


@contextmanager
def _heeding(stop: Callable[[], bool] | None, model: Any) -> Iterator[None]:
    """Ask `stop` whenever the model is called, in whatever way. Raises Interrupted."""
    if stop is None:
        yield
        return

    def ask(*_: object) -> None:
        if stop():
            raise Interrupted

    # Not on the model itself: an adapter's wrapper does not call the model that it wraps.
    handle = model.get_input_embeddings().register_forward_pre_hook(ask)
    try:
        yield
    finally:
        handle.remove()


def scores_by_source(
    held_out: Sequence[Window], nats: Sequence[float], sources: Mapping[str, str | None]
) -> dict[str, Score]:
    """The score of each source's windows, by name; {} if all are of one source."""
    paid = {id(window): cost for window, cost in zip(held_out, nats, strict=True)}
    groups = by_group(held_out, sources)
    if len(groups) < 2:
        return {}
    return {name: total(group, [paid[id(w)] for w in group]) for name, group in groups.items()}


def by_group(
    held_out: Sequence[Window], sources: Mapping[str, str | None]
) -> dict[str, list[Window]]:
    """The windows of each source, by its name, sorted."""
    groups: dict[str, list[Window]] = {}
    for window in held_out:
        groups.setdefault(sources.get(window.document) or NO_SOURCE, []).append(window)
    return {name: groups[name] for name in sorted(groups)}


def append_evaluation(
    path: Path, evaluation: Evaluation, what: str, asked: Sequence[Any] = ()
) -> None:
    """Add a line to the file; a line that a killed process left unfinished stays by itself."""
    row = evaluation.as_dict(what) | ({"prompts": list(asked)} if asked else {})
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(encode_json(row) + b"\n")


def evaluation_of(path: Path, step: int | None, what: str) -> Evaluation:
    """The evaluation of `what` at `step` (None: the last one) that the file has.

    Raises PipelineError if it has none.
    """
    rows = [row for row in read_evaluations(path) if row["what"] == what]
    rows = [row for row in rows if step is None or row["step"] == step]
    if not rows:
        raise PipelineError(f"{path} has no score of {what} at step {step}.", "Start anew.")
    row = max(rows, key=lambda row: row["step"])
    return Evaluation(
        row["step"], _score_of(row),
        {name: _score_of(part) for name, part in row["by_source"].items()},
        list(row["samples"]), row["seconds"],
    )  # fmt: skip


def _score_of(row: Mapping[str, Any]) -> Score:
    return Score(row["nats"], row["tokens"], row["bytes"])


def read_evaluations(path: Path) -> list[dict[str, Any]]:
    """The lines of `evaluations.jsonl`; none if it is not there.

    Of a step that was evaluated twice, as after an interruption, the later line counts.
    """
    if not path.is_file():
        return []
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for line in path.read_bytes().split(b"\n"):
        try:
            row = json.loads(line)
            key = (row["step"], row["what"])
        except (ValueError, KeyError, TypeError):  # left unfinished by a killed process
            continue
        found.pop(key, None)
        found[key] = row
    return list(found.values())
