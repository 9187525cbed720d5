"""What a model is trained on: texts or records, from which sources, with which weights."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.corpus.examples import Shape
from pipeline.corpus.token_cache import Example
from pipeline.errors import PipelineError, UsageError
from pipeline.scoring.bits import HasText
from pipeline.settings import nearest
from pipeline.training.mixture import Schedule, Shares

NOUNS: dict[Shape, str] = {"text": "document", "completion": "record", "chat": "chat"}


class HasId(Protocol):
    """A document or record, as far as sources and weights are concerned."""

    @property
    def id(self) -> str: ...


@dataclass(frozen=True)
class Sample:
    """Something to train on or to score: {"text"}, {"prompt", "completion"} or {"messages"}.

    `collection` is the name of the source that it came from, and `weight` that source's share of
    the trained tokens: 0 is for evaluation only, None is not weighted. All editions of one work
    have the same `work`, where that is known. `end_newlines` are the line ends that were taken off
    the end of its text.
    """

    id: str
    content: Mapping[str, Any]
    collection: str | None = None
    weight: float | None = None
    work: str | None = None
    end_newlines: int = 0

    @property
    def text(self) -> str:
        """A document's text."""
        return str(self.content["text"])

    @property
    def kind(self) -> Shape:
        """Which of the three it is."""
        if "messages" in self.content:
            return "chat"
        return "completion" if "completion" in self.content else "text"


def as_sample(document: HasText | Sample) -> Sample:
    """Any document as a sample; a sample as it is."""
    if isinstance(document, Sample):
        return document
    return Sample(
        document.id,
        {"text": document.text},
        collection_of(document),
        _weight_of(document),
        getattr(document, "work", None),
    )


def characters_of(samples: Iterable[Sample]) -> int:
    """How long samples are: the characters of everything that is said in them."""
    return sum(Example(sample.id, sample.content).characters for sample in samples)


def kind_of(samples: Iterable[Sample]) -> Shape:
    """The kind that all samples have; "text" if there are none.

    Raises PipelineError if they are of more than one.
    """
    kinds = sorted({sample.kind for sample in samples})
    if len(kinds) > 1:
        raise PipelineError(
            f"One run cannot train on {' and '.join(kinds)} at once.", "Train on one after another."
        )
    return kinds[0] if kinds else "text"


def choose_schedule(
    documents: Sequence[HasId], held_out: Sequence[HasId], changes: Mapping[int, Shares]
) -> Schedule | None:
    """The shares of the sources in training: `changes` by step, else the documents' own weights.

    `changes` are those of `--mix`. Where they begin later than step 0, the documents' own weights
    hold until then. None if nothing is weighted. A weight of 0 keeps a document out of training
    and is no share: a source without a weight beside it is as unweighted as if it were alone.

    Raises:
        UsageError: `changes` name a source that is not there or held out entirely, or leave one
            out.
        PipelineError: some documents have a weight and others none, or a source has two weights.
    """
    stages = dict(changes)
    if 0 not in stages:
        weights = _own_weights(documents)
        if any(weights.values()):
            stages[0] = weights
        elif stages:
            raise UsageError(
                f"--mix says what to train on from step {min(stages)} on, but not before.",
                "Add --mix NAME=WEIGHT,... without a step.",
            )
    if changes:
        _check_names(stages, documents, held_out)
    return Schedule.of(list(stages.items())) if stages else None


def trained_on(documents: Iterable[Any], schedule: Schedule | None) -> list[Any]:
    """The documents that have a share at any time; without a schedule all but those of weight 0."""
    if schedule is None:
        return [document for document in documents if _weight_of(document) != 0]
    return [document for document in documents if collection_of(document) in schedule.names]


def collection_of(document: HasId) -> str | None:
    """The name of the source that the document came from, if it is known."""
    name: str | None = getattr(document, "collection", None)
    return name


def _weight_of(document: HasId) -> float | None:
    weight: float | None = getattr(document, "weight", None)
    return weight


def _own_weights(documents: Iterable[HasId]) -> dict[str, float]:
    """The weight of each source in the documents, {} if none but 0 is given."""
    weights: dict[str, float] = {}
    unweighted: HasId | None = None
    for document in documents:
        name, weight = collection_of(document), _weight_of(document)
        if weight is None:
            unweighted = unweighted or document
        elif name is None:
            raise PipelineError(f"Document {document.id!r} has a weight, but names no source.")
        elif weights.setdefault(name, weight) != weight:
            raise PipelineError(
                f"The source {name!r} has two weights, {weights[name]} and {weight} (document "
                f"{document.id!r}).",
                "Give one for all with --mix.",
            )
    if unweighted is not None and any(weights.values()):
        name = collection_of(unweighted)
        what = f"The source {name!r}" if name else f"Document {unweighted.id!r}"
        raise PipelineError(
            f"{what} has no weight, but other sources have.",
            "Give every --source a weight, or none.",
        )
    return weights


def _check_names(
    stages: Mapping[int, Shares], documents: Sequence[HasId], held_out: Sequence[HasId]
) -> None:
    trained = {collection_of(document): document for document in documents}
    if None in trained:
        raise UsageError(
            f"--mix cannot be used: document {trained[None].id!r} does not say which source it "
            "is from.",
            "Name the sources in stage 1: --source NAME=WEIGHT.",
        )
    known = {name for document in (*documents, *held_out) if (name := collection_of(document))}
    for shares in stages.values():
        for name, share in shares.items():
            if name not in known:
                raise UsageError(
                    f"--mix names {name!r}, but no source is called so.", nearest(name, known)
                )
            if share and name not in trained:
                raise UsageError(f"--mix gives {name!r} a share, but all of it is held out.")
    named = {name for shares in stages.values() for name in shares}
    for missing in sorted(filter(None, trained.keys() - named)):
        raise UsageError(
            f"--mix does not name {missing!r}.", "Give it a share, or 0 to leave it out."
        )
