"""Everything about a run that is decided, and refused, before a model is loaded."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.console import many, say, warn
from pipeline.corpus.examples import Shape
from pipeline.corpus.new_tokens import Extended, extend_tokenizer
from pipeline.corpus.token_cache import load_tokenizer
from pipeline.corpus.tokens import choose_pad
from pipeline.errors import UsageError
from pipeline.scoring.bits import WINDOW_TOKENS, HasText, Window
from pipeline.scoring.stretches import speller_of
from pipeline.training.base_model import BaseModel
from pipeline.training.chats import describe_chat
from pipeline.training.configs import run_context
from pipeline.training.data import (
    NOUNS,
    Sample,
    as_sample,
    characters_of,
    choose_schedule,
    kind_of,
    trained_on,
)
from pipeline.training.dataset import TrainingData, add_sources, training_data
from pipeline.training.engine import Engine, Machine, Precision, choose_precision, start_engine
from pipeline.training.held_out import held_out_windows
from pipeline.training.length import Plan, check_batch, plan, plan_of, tokens_wanted
from pipeline.training.libraries import quiet_libraries
from pipeline.training.loading import check_method
from pipeline.training.mix_option import parse_mix
from pipeline.training.mixture import Mixture, Schedule
from pipeline.training.optimizer import check_optimizer
from pipeline.training.order import draw_order, even_order
from pipeline.training.sample_prompts import Asked, choose_prompts
from pipeline.training.segments import Segments, Series, make_segments, with_text
from pipeline.training.settings import EVEN, RANDOM, TrainSettings, context_length
from pipeline.training.yardstick import Reference, Yardstick

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Chosen:
    """Samples to train on and those held out, and how sources are mixed, or which segments of a
    `series` there are."""

    kind: Shape
    training: list[Sample]
    held_out: list[Sample]
    schedule: Schedule | None
    everything: list[Sample]
    series: Series | None = None

    @property
    def without_share(self) -> list[Sample]:
        """What is neither trained on nor held out."""
        used = {id(sample) for sample in (*self.training, *self.held_out)}
        return [sample for sample in self.everything if id(sample) not in used]


@dataclass(frozen=True)
class Prepared:
    """A run that could begin. `order` has the sequences of the whole run, of a series segment after
    segment; `drawn` says how they were drawn from all texts."""

    settings: TrainSettings
    base: BaseModel
    tokenizer: "PreTrainedTokenizerBase"
    extended: Extended
    padding: tuple[int, str]  # the id, and why this one
    held_out: list[Window]
    base_held_out: list[Window]  # the same text in the base's own tokens
    sources: dict[str, str | None]  # of what is held out, by document
    asked: list[Asked]  # what the model goes on from in its samples
    chat: dict[str, Any] | None  # of the template, where there is one; see `describe_chat`
    data: TrainingData
    mixture: Mixture | None
    segments: Segments | None
    order: list[int]
    drawn: str  # EVEN or RANDOM
    length: Plan
    machine: Machine
    engine: Engine
    precision: Precision


def choose(
    settings: TrainSettings,
    train_documents: Iterable[HasText | Sample],
    validation_documents: Iterable[HasText | Sample],
    base: BaseModel,
    series: Series | None = None,
) -> Chosen:
    """What can be known and refused before anything heavy is loaded.

    `series` says which document is in which segment.

    Raises UsageError and PipelineError as `trainer.train` says.
    """
    settings.check()
    check_batch(settings)
    check_optimizer(settings)
    settings.check_against(base.path)
    training = [as_sample(document) for document in train_documents]
    held_out = [as_sample(document) for document in validation_documents]
    kind = kind_of([*training, *held_out])
    if settings.chat_template and kind != "chat":
        raise UsageError("--chat-template is for chats, and there are none to train on.")
    if settings.eos == "chunk" and kind != "text":
        raise UsageError(
            f"--eos per-chunk is for texts, and {NOUNS[kind]}s are not cut into chunks.",
            "Leave --eos out.",
        )
    schedule = choose_schedule(training, held_out, parse_mix(settings.mix))
    if settings.order == EVEN and (kind != "text" or schedule is not None or series is not None):
        why = "the sources have weights" if schedule is not None else "a series has its own order"
        if kind != "text":
            why = f"there are no texts, only {NOUNS[kind]}s"
        raise UsageError(f"--order even cannot be used: {why}.", "Leave it out.")
    trained = trained_on(training, schedule)
    series = _series(settings, series, trained, held_out, schedule)
    return Chosen(kind, trained, held_out, schedule, [*training, *held_out], series)


def _series(
    settings: TrainSettings,
    series: Series | None,
    training: list[Sample],
    held_out: list[Sample],
    schedule: Schedule | None,
) -> Series | None:
    """The series to train on segment by segment; None if there is none."""
    if series is not None and schedule is not None:
        if settings.segments_per_round is None:
            say("The sources have weights, so the segments of the series are mixed.")
            return None
        raise UsageError(
            "--segments-per-round cannot be used: the sources have weights, and are mixed.",
            "Leave it out, or the weights.",
        )
    if series is not None:
        series = with_text(series, training, held_out, settings.missing_segment)
    if series is None and settings.segments_per_round is not None:
        raise UsageError(
            "--segments-per-round cannot be used: the data has no segments.",
            "They come from a series: `pipeline acquire --series`.",
        )
    return series


def _has_texts(settings: TrainSettings, chosen: Chosen) -> bool:
    """Whether it is to be known of each sequence which text it is of, to draw them evenly."""
    if chosen.kind != "text" or chosen.schedule is not None or chosen.series is not None:
        return False
    is_told = settings.max_steps is not None or settings.tokens is not None
    may_be_short = is_told or (settings.epochs or 1) < 1
    return settings.order == EVEN or (settings.order != RANDOM and may_be_short)


def tokenize(
    settings: TrainSettings,
    chosen: Chosen,
    tokenizer_path: Path,
    engine: Engine,
    machine: Machine,
    tokens_dir: Path,
    jobs: int,
) -> TrainingData:
    """The sequences to train on."""
    # unsloth's own attention does not look at positions: packed documents would see each other.
    packing = settings.packing and engine.name != "unsloth"
    training, series = chosen.training, chosen.series
    if _has_texts(settings, chosen):  # by which they are drawn evenly
        training = [replace(sample, collection=sample.work or sample.id) for sample in training]
    elif series is not None:  # rows of two segments share no sequence, as those of two sources
        training = [replace(sample, collection=series.of(sample.id)) for sample in training]
    weighted = chosen.schedule is not None or series is not None
    return training_data(
        training, tokenizer_path, settings, tokens_dir, jobs=jobs, packing=packing,
        weighted=weighted, kind=chosen.kind, one_by_one=not machine.cuda,
    )  # fmt: skip


def prepare(
    settings: TrainSettings, chosen: Chosen, base: BaseModel, tokens_dir: Path, jobs: int
) -> Prepared:
    """Decide everything, and put the data into sequences. Raises as `trainer.train` says."""
    machine = Machine.detect()
    engine = start_engine(machine, settings)  # before anything imports transformers
    quiet_libraries()
    precision = choose_precision(machine, settings.precision)
    check_method(settings, base.path, machine)
    extended = extend_tokenizer(base.path, settings.extra_tokens, tokens_dir.parent / "tokenizers")
    tokenizer = load_tokenizer(extended.path)
    held_out = _windows(settings, chosen, base, tokenizer)
    base_held_out = held_out
    if extended.new:
        base_held_out = _same_bytes(settings, chosen, base, tokenizer, held_out)
    data = tokenize(settings, chosen, extended.path, engine, machine, tokens_dir, jobs)
    add_sources(data.ledger, chosen.everything, chosen.held_out, chosen.without_share)
    asked = choose_prompts(settings, data.kind, chosen.held_out, tokenizer)
    chat = None
    if data.kind == "chat":
        chat = describe_chat(tokenizer, settings.chat_template, asked[0].turns)
    mixture = _mixture(settings, chosen.schedule, data)
    segments = None
    if chosen.series is not None:
        policy, per_step = settings.missing_segment, settings.sequences_per_step
        segments = make_segments(data, chosen.series, policy, per_step)
    order, length, drawn = _order(settings, mixture, segments, data, _has_texts(settings, chosen))
    _say_what_is_not_read(mixture, length, chosen)
    return Prepared(
        settings=settings, base=base, tokenizer=tokenizer, extended=extended,
        padding=choose_pad(tokenizer), held_out=held_out, base_held_out=base_held_out,
        sources={sample.id: sample.collection for sample in chosen.held_out}, asked=asked,
        chat=chat, data=data, mixture=mixture, segments=segments, order=order, drawn=drawn,
        length=length, machine=machine, engine=engine, precision=precision,
    )  # fmt: skip


def _windows(
    settings: TrainSettings, chosen: Chosen, base: BaseModel, tokenizer: "PreTrainedTokenizerBase"
) -> list[Window]:
    context = context_length(base.path)
    if settings.from_scratch:
        context = run_context(settings, base.path)
    return held_out_windows(
        tokenizer, chosen.held_out, chosen.kind, settings.chat_template,
        length=min(WINDOW_TOKENS, context or WINDOW_TOKENS), max_tokens=settings.eval_tokens,
    )  # fmt: skip


def _same_bytes(
    settings: TrainSettings,
    chosen: Chosen,
    base: BaseModel,
    tokenizer: "PreTrainedTokenizerBase",
    held_out: list[Window],
) -> list[Window]:
    """Windows over the very bytes of `held_out`, in the base's own tokens."""
    own = load_tokenizer(base.path)
    yardstick = Yardstick(
        chosen.held_out, chosen.kind, tokens=settings.eval_tokens,
        template=settings.chat_template, reference=Reference(tokenizer, held_out),
    )  # fmt: skip
    context = run_context(settings, base.path) if settings.from_scratch else None
    return yardstick.windows(speller_of(own), context or context_length(base.path), own)


def _mixture(
    settings: TrainSettings, schedule: Schedule | None, data: TrainingData
) -> Mixture | None:
    """The sources by their shares of the tokens trained on: what one has of prompts is no share."""
    if schedule is None:
        return None
    return Mixture(
        schedule, data.trained, data.collections, settings.seed, settings.sequences_per_step
    )


def _order(
    settings: TrainSettings,
    mixture: Mixture | None,
    segments: Segments | None,
    data: TrainingData,
    has_texts: bool,
) -> tuple[list[int], Plan, str]:
    """The sequences of the whole run, its length, and how they are drawn: "even" or "random"."""
    if mixture is None:
        length = plan(settings, len(data.sequences), data.tokens, sum(data.trained))
        sequences = round(length.epochs * len(data.sequences))
        if segments is not None:
            return segments.order(sequences, settings.seed), length, RANDOM
        is_short = sequences < len(data.sequences) and len(set(data.collections)) > 1
        if has_texts and (settings.order == EVEN or is_short):
            return even_order(data.collections, sequences, settings.seed), length, EVEN
        return draw_order(len(data.sequences), sequences, settings.seed), length, RANDOM
    tokens = tokens_wanted(settings, mixture.tokens)
    order = mixture.take(steps=settings.max_steps, tokens=tokens)
    trained = sum(mixture.lengths[i] for i in order)
    steps = len(order) // mixture.rows_per_step
    read = sum(data.lengths[i] for i in order)
    return order, plan_of(settings, steps, trained / mixture.tokens, read, trained), RANDOM


def _say_what_is_not_read(mixture: Mixture | None, length: Plan, chosen: Chosen) -> None:
    if mixture is None:
        return
    for start, _ in mixture.schedule.stages:
        if start >= length.steps:
            steps = many(length.steps, "step")
            warn(f"The weights from step {start} on are never used: the run has {steps}.")
    left_out: dict[str | None, list[Sample]] = {}
    for sample in chosen.without_share:
        left_out.setdefault(sample.collection, []).append(sample)
    for name, samples in left_out.items():
        size = f"{many(len(samples), NOUNS[chosen.kind])}, {characters_of(samples):,} characters"
        say(f"--mix leaves out {name!r}: {size}.")
    weighted = {sample.collection: sample.weight for sample in chosen.held_out}
    for name, weight in weighted.items():
        if weight and name not in mixture.collections and name not in left_out:
            warn(f"The source {name!r} is held out entirely: nothing of it is trained on.")


def announce(run: Prepared) -> None:
    """Say what is going to be trained on, for how long, and with what."""
    data, ledger = run.data, run.data.ledger
    noun = NOUNS[data.kind]
    rows = many(ledger["rows"], "row")
    if data.packed and len(data.sequences) < ledger["rows"]:
        rows += f", packed into {many(len(data.sequences), 'sequence')}"
    say(
        f"Train: {many(data.examples, noun)}, {ledger['characters']:,} characters, "
        f"{ledger['tokens']:,} tokens, {ledger['trained']:,} of them trained on, in {rows}; "
        f"{100 * ledger['real_share']:.1f} % of the positions are tokens. Held out: "
        f"{sum(w.predicted for w in run.held_out):,} tokens of "
        f"{many(len({w.document for w in run.held_out}), noun)}."
    )
    if run.settings.extra_tokens:
        asked = many(len(run.settings.extra_tokens), "extra token")
        say(f"{asked}: {len(run.extended.new):,} new to the tokenizer, which has them all now.")
    if run.settings.packing and not data.packed:
        say(f"Not packed: {run.engine.name} would let documents in one sequence see each other.")
    for sentence in run.segments.describe() if run.segments else ():
        say(sentence)
    say(f"{run.length.describe()}.")
    for note in run.length.notes():
        say(note)
    what = "a new model" if run.settings.from_scratch else run.settings.method
    say(
        f"Method: {what}, learning rate {run.settings.peak_learning_rate:g}, with "
        f"{run.engine.name} ({run.engine.reason}) in {run.precision.name} "
        f"({run.precision.reason})."
    )
    if run.drawn == EVEN:
        texts = many(len(set(run.data.collections)), "text")
        say(
            f"As much is read of each of {texts}, as far as it goes: --order random draws from all."
        )
    if run.mixture:
        readings = run.mixture.readings(run.order)
        say(f"Mixture: {'; '.join(map(str, readings))}.")
