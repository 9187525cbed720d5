"""LoRA on texts, on prompts with completions, or on chats: an adapter and its scores come out.

    result = train(TrainSettings(epochs=1), train_documents, validation_documents, base, folder)

The work is TRL's SFTTrainer's (see `loop`), with PEFT's adapters, on rows of ready token ids.
"""

from collections.abc import Iterable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pipeline.console import progress, say, warn
from pipeline.corpus.examples import Shape
from pipeline.corpus.token_cache import load_tokenizer
from pipeline.corpus.tokens import choose_pad
from pipeline.errors import UsageError
from pipeline.scoring.bits import WINDOW_TOKENS, HasText, Score, Window, score_model
from pipeline.scoring.samples import complete
from pipeline.training.base_model import BaseModel
from pipeline.training.chats import describe_chat
from pipeline.training.data import (
    NOUNS,
    Sample,
    as_sample,
    characters_of,
    choose_schedule,
    kind_of,
    trained_on,
)
from pipeline.training.dataset import TrainingData, add_sources, show_examples, training_data
from pipeline.training.engine import (
    Engine,
    Machine,
    Precision,
    choose_precision,
    load_with_adapter,
    start_engine,
)
from pipeline.training.held_out import held_out_windows
from pipeline.training.libraries import quiet_libraries
from pipeline.training.loop import Loop, fit
from pipeline.training.mixture import Mixture, Schedule
from pipeline.training.results import METRICS, RUN, TrainResult, save_adapter, save_reports
from pipeline.training.settings import Plan, TrainSettings, context_length, parse_mix, plan

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["TrainResult", "TrainSettings", "show", "train"]


@dataclass(frozen=True)
class _Run:
    """Everything that is decided before the model is loaded."""

    settings: TrainSettings
    base: BaseModel
    tokenizer: "PreTrainedTokenizerBase"
    padding: tuple[int, str]  # the id, and why this one
    held_out: list[Window]
    chat: dict[str, Any] | None  # of the template, where there is one; see `describe_chat`
    data: TrainingData
    mixture: Mixture | None
    order: list[int] | None  # sequences of the whole run, where there is a mixture
    length: Plan
    machine: Machine
    engine: Engine
    precision: Precision


def train(
    settings: TrainSettings,
    train_documents: Iterable[HasText | Sample],
    validation_documents: Iterable[HasText | Sample],
    base: BaseModel,
    output_dir: Path,
    *,
    tokens_dir: Path | None = None,
    jobs: int = 1,
) -> TrainResult:
    """Train an adapter for `base` and measure what it brought.

    Writes into `output_dir`: `adapter_model.safetensors` and `adapter_config.json` (PEFT), the
    base model's tokenizer, `metrics.jsonl`, `loss.png`, `run.yaml`, `evaluation.json`, and
    `windows.json`, the held-out token windows on which other forms of the model are scored later.

    Args:
        train_documents: documents, or records as samples; all of one kind.
        validation_documents: the same, held out.
        tokens_dir: a folder for the tokenized data, which is found there the next time.
        jobs: processes that tokenize.

    Raises:
        UsageError: a setting makes no sense, or not with this model or these sources; before
            anything is loaded.
        PipelineError: nothing to train on or to hold out, several kinds at once, sources with a
            weight and without one, a chat template that does not serve, a model that cannot keep
            packed documents apart, or the loss is no longer a number.
    """
    with ExitStack() as stack:
        tokens_dir = tokens_dir or Path(stack.enter_context(TemporaryDirectory())) / "tokens"
        chosen = _choose(settings, train_documents, validation_documents, base)
        run = _prepare(settings, chosen, base, tokens_dir, jobs)
        _announce(run)
        return _train(run, output_dir)


def show(
    settings: TrainSettings,
    train_documents: Iterable[HasText | Sample],
    validation_documents: Iterable[HasText | Sample],
    base: BaseModel,
    n: int,
    tokens_dir: Path,
    jobs: int = 1,
) -> list[list[tuple[str, bool]]]:
    """What `train` would train on: the first `n` sequences as text in stretches, each with whether
    it is trained on. Raises as `train` does before it loads the model.
    """
    chosen = _choose(settings, train_documents, validation_documents, base)
    engine = start_engine(Machine.detect(), settings.engine)
    quiet_libraries()
    data = _tokenize(settings, chosen, base, engine, tokens_dir, jobs)
    return show_examples(data, load_tokenizer(base.path), n)


@dataclass(frozen=True)
class _Chosen:
    """Samples to train on and those held out, and how sources are mixed."""

    kind: Shape
    training: list[Sample]
    held_out: list[Sample]
    schedule: Schedule | None
    everything: list[Sample]

    @property
    def without_share(self) -> list[Sample]:
        """What is neither trained on nor held out."""
        used = {id(sample) for sample in (*self.training, *self.held_out)}
        return [sample for sample in self.everything if id(sample) not in used]


def _choose(
    settings: TrainSettings,
    train_documents: Iterable[HasText | Sample],
    validation_documents: Iterable[HasText | Sample],
    base: BaseModel,
) -> _Chosen:
    """What can be known and refused before anything heavy is loaded."""
    settings.check()
    settings.check_against(base.path)
    training = [as_sample(document) for document in train_documents]
    held_out = [as_sample(document) for document in validation_documents]
    kind = kind_of([*training, *held_out])
    if settings.chat_template and kind != "chat":
        raise UsageError("--chat-template is for chats, and there are none to train on.")
    schedule = choose_schedule(training, held_out, parse_mix(settings.mix))
    return _Chosen(kind, trained_on(training, schedule), held_out, schedule, [*training, *held_out])


def _tokenize(
    settings: TrainSettings,
    chosen: _Chosen,
    base: BaseModel,
    engine: Engine,
    tokens_dir: Path,
    jobs: int,
) -> TrainingData:
    # unsloth's own attention does not look at positions: packed documents would see each other.
    packing = settings.packing and engine.name != "unsloth"
    return training_data(
        chosen.training, base.path, settings, tokens_dir, jobs=jobs, packing=packing,
        weighted=chosen.schedule is not None, kind=chosen.kind,
    )  # fmt: skip


def _prepare(
    settings: TrainSettings, chosen: _Chosen, base: BaseModel, tokens_dir: Path, jobs: int
) -> _Run:
    machine = Machine.detect()
    engine = start_engine(machine, settings.engine)  # before anything imports transformers
    quiet_libraries()
    tokenizer = load_tokenizer(base.path)
    window = min(WINDOW_TOKENS, context_length(base.path) or WINDOW_TOKENS)
    template = settings.chat_template
    held_out = held_out_windows(
        tokenizer,
        chosen.held_out,
        chosen.kind,
        template,
        length=window,
        max_tokens=settings.eval_tokens,
    )
    data = _tokenize(settings, chosen, base, engine, tokens_dir, jobs)
    add_sources(data.ledger, chosen.everything, chosen.held_out, chosen.without_share)
    chat = None
    if data.kind == "chat":
        chat = describe_chat(tokenizer, template, settings.sample_prompt)
    mixture, order = _mix(settings, chosen.schedule, data)
    if mixture is None or order is None:
        length = plan(settings, len(data.sequences), data.tokens)
    else:
        length = _plan_of(mixture, order, data)
        _say_what_is_not_read(mixture, length, chosen)
    return _Run(
        settings=settings,
        base=base,
        tokenizer=tokenizer,
        padding=choose_pad(tokenizer),
        held_out=held_out,
        chat=chat,
        data=data,
        mixture=mixture,
        order=order,
        length=length,
        machine=machine,
        engine=engine,
        precision=choose_precision(machine),
    )


def _train(run: _Run, output_dir: Path) -> TrainResult:
    settings, base = run.settings, run.base
    model = load_with_adapter(run.engine, base, settings, run.precision, cuda=run.machine.cuda)
    base_score, base_sample = _measure(model, run, "base")
    output_dir.mkdir(parents=True, exist_ok=True)
    loop = Loop(
        settings=settings, data=run.data, order=run.order, steps=run.length.steps,
        tokenizer=run.tokenizer, pad_id=run.padding[0], precision=run.precision,
        cuda=run.machine.cuda,
    )  # fmt: skip
    fitted = fit(model, loop, output_dir / METRICS)
    score, sample = _measure(model, run, "adapter")

    points = fitted.metrics.points
    result = TrainResult(
        documents=run.data.examples,
        sequences=len(run.data.sequences),
        steps=run.length.steps,
        epochs=run.length.epochs,
        tokens=points[-1].tokens,
        positions=fitted.positions,
        seconds=fitted.seconds,
        base=base_score,
        adapter=score,
        samples={"base": base_sample, "adapter": sample},
        engine=run.engine,
        precision=run.precision,
        padding=run.padding[1],
        chat=run.chat,
        ledger=run.data.ledger,
    )
    save_adapter(model, base, output_dir)
    save_reports(result, run.data, points, run.held_out, settings, base, output_dir)
    _record_mixture(run, output_dir / RUN)
    return result


def _mix(
    settings: TrainSettings, schedule: Schedule | None, data: TrainingData
) -> tuple[Mixture | None, list[int] | None]:
    """The mixture and the order of the sequences of the whole run, if the sources are weighted.

    Shares are of the tokens trained on: what a source has of prompts does not count.
    """
    if schedule is None:
        return None, None
    mixture = Mixture(
        schedule,
        data.trained,
        data.collections,
        settings.seed,
        settings.batch_size * settings.gradient_accumulation,
    )
    tokens = mixture.tokens * (settings.epochs or 1.0)
    return mixture, mixture.take(steps=settings.max_steps, tokens=tokens)


def _plan_of(mixture: Mixture, order: list[int], data: TrainingData) -> Plan:
    trained = sum(mixture.lengths[i] for i in order)
    tokens = sum(data.lengths[i] for i in order)
    return Plan(len(order) // mixture.rows_per_step, trained / mixture.tokens, tokens)


def _say_what_is_not_read(mixture: Mixture, length: Plan, chosen: _Chosen) -> None:
    for start, _ in mixture.schedule.stages:
        if start >= length.steps:
            steps = _many(length.steps, "step")
            warn(f"The weights from step {start} on are never used: the run has {steps}.")
    left_out: dict[str | None, list[Sample]] = {}
    for sample in chosen.without_share:
        left_out.setdefault(sample.collection, []).append(sample)
    for name, samples in left_out.items():
        size = f"{_many(len(samples), NOUNS[chosen.kind])}, {characters_of(samples):,} characters"
        say(f"--mix leaves out {name!r}: {size}.")
    weighted = {sample.collection: sample.weight for sample in chosen.held_out}
    for name, weight in weighted.items():
        if weight and name not in mixture.collections and name not in left_out:
            warn(f"The source {name!r} is held out entirely: nothing of it is trained on.")


def _announce(run: _Run) -> None:
    data, length, ledger = run.data, run.length, run.data.ledger
    noun = NOUNS[data.kind]
    rows = _many(ledger["rows"], "row")
    if data.packed and len(data.sequences) < ledger["rows"]:
        rows += f", packed into {_many(len(data.sequences), 'sequence')}"
    say(
        f"Train: {_many(data.examples, noun)}, {ledger['characters']:,} characters, "
        f"{ledger['tokens']:,} tokens, {ledger['trained']:,} of them trained on, in {rows}; "
        f"{100 * ledger['real_share']:.1f} % of the positions are tokens. Held out: "
        f"{sum(w.predicted for w in run.held_out):,} tokens of "
        f"{_many(len({w.document for w in run.held_out}), noun)}."
    )
    if run.settings.packing and not data.packed:
        say(f"Not packed: {run.engine.name} would let documents in one sequence see each other.")
    say(
        f"{_many(length.steps, 'step')} = {length.epochs:.2f} epochs = about {length.tokens:,} "
        f"tokens, with {run.engine.name} ({run.engine.reason}) in {run.precision.name} "
        f"({run.precision.reason})."
    )
    if run.mixture and run.order:
        readings = run.mixture.readings(run.order)
        say(f"Mixture: {'; '.join(map(str, readings))}.")


def _record_mixture(run: _Run, path: Path) -> None:
    """Add to the run's record what was asked of each source and what was read."""
    if run.mixture and run.order:
        import yaml

        record = {"mixture": run.mixture.as_dict(run.order)}
        with path.open("a", encoding="utf-8") as file:
            yaml.safe_dump(record, file, sort_keys=False, allow_unicode=True)


def _many(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _measure(model: Any, run: _Run, which: str) -> tuple[Score, str]:
    """Score and sample the model as it is ("adapter"), or with its adapter off ("base")."""
    total = sum(window.predicted for window in run.held_out)
    autocast = run.precision.autocast
    with model.disable_adapter() if which == "base" else nullcontext():
        with progress(f"Scoring {which}", total, "tokens") as advance:
            score = score_model(model, run.held_out, autocast=autocast, on_window=advance)
        sample = complete(
            model,
            run.tokenizer,
            run.chat["prompt_ids"] if run.chat else run.settings.sample_prompt,
            max_new_tokens=run.settings.sample_tokens,
            seed=run.settings.seed,
            autocast=autocast,
        )
    say(f"Held out, {which}: {score.bits_per_byte:.4f} bits per byte.")
    return score, sample
