"""What is told of weights that are published while a run goes on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.training.evaluation import Evaluation
from pipeline.training.preparation import Prepared
from pipeline.training.saving import save_trained

if TYPE_CHECKING:
    from pipeline.training.publishing_best import BestPublisher


@dataclass(frozen=True)
class News:
    """What there is to tell of weights: those of `step` of a run of `steps`, with their score on
    the held-out text (of `held_out_bytes`), and that of the base model, `before`. `finished`: they
    are what the run came to."""

    run: str
    step: int
    steps: int
    bits_per_byte: float
    before: float
    held_out_bytes: int
    base: Mapping[str, Any]
    method: str
    kind: str = "text"
    from_scratch: bool = False
    finished: bool = False


def publishing(
    run: Prepared, before: Evaluation, publisher: "BestPublisher"
) -> Callable[[Any, Evaluation], None]:
    """What publishes a model's weights with their score."""
    settings = run.settings

    def publish(model: Any, found: Evaluation) -> None:
        news = News(
            run=publisher.run, step=found.step, steps=run.length.steps,
            bits_per_byte=found.score.bits_per_byte, before=before.score.bits_per_byte,
            held_out_bytes=found.score.n_bytes, base=run.base.as_dict(), method=settings.method,
            kind=run.data.kind, from_scratch=settings.from_scratch is not None,
        )  # fmt: skip
        publisher.offer(
            lambda folder: save_trained(model, run.base, settings, folder, run.extended), news
        )

    return publish
