"""Text completion with LoRA: whole documents in, an adapter and its scores out.

    result = train(TrainSettings(epochs=1), train_documents, validation_documents, base, folder)

The work is TRL's SFTTrainer's, with PEFT's adapters, on rows of ready token ids.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.console import progress, say, warn
from pipeline.errors import PipelineError
from pipeline.scoring.bits import WINDOW_TOKENS, HasText, Score, Window, score_model, windows
from pipeline.scoring.samples import complete
from pipeline.training.base_model import BaseModel
from pipeline.training.data import (
    BlockCollator,
    TrainingData,
    choose_schedule,
    collection_of,
    trained_on,
    training_data,
)
from pipeline.training.engine import (
    Engine,
    Machine,
    Precision,
    choose_precision,
    load_with_adapter,
    loading,
    start_engine,
)
from pipeline.training.libraries import quiet_libraries
from pipeline.training.metrics import MetricsWriter, check_finite
from pipeline.training.mixture import Mixture, Schedule
from pipeline.training.results import METRICS, RUN, TrainResult, save_adapter, save_reports
from pipeline.training.settings import Plan, TrainSettings, context_length, parse_mix, plan

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["TrainResult", "TrainSettings", "train"]


@dataclass(frozen=True)
class _Run:
    """Everything that is decided before the model is loaded."""

    settings: TrainSettings
    base: BaseModel
    tokenizer: "PreTrainedTokenizerBase"
    held_out: list[Window]
    data: TrainingData
    mixture: Mixture | None
    order: list[int] | None  # rows of the whole run, where there is a mixture; else they are drawn
    length: Plan
    machine: Machine
    engine: Engine
    precision: Precision


def train(
    settings: TrainSettings,
    train_documents: Iterable[HasText],
    validation_documents: Sequence[HasText],
    base: BaseModel,
    output_dir: Path,
) -> TrainResult:
    """Train an adapter for `base` and measure what it brought.

    Writes into `output_dir`: `adapter_model.safetensors` and `adapter_config.json` (PEFT), the
    base model's tokenizer, `metrics.jsonl`, `loss.png`, `run.yaml`, `evaluation.json`, and
    `windows.json`, the held-out token windows on which other forms of the model are scored later.

    Raises:
        UsageError: a setting makes no sense, or not with this model or these sources; before
            anything is loaded.
        PipelineError: no text to train on or to hold out, sources with a weight and without one,
            or the loss is no longer a number.
    """
    settings.check()
    settings.check_against(base.path)
    documents = list(train_documents)
    schedule = choose_schedule(documents, validation_documents, parse_mix(settings.mix))
    documents = trained_on(documents, schedule)
    run = _prepare(settings, schedule, documents, validation_documents, base)
    _announce(run)

    model = load_with_adapter(run.engine, base, settings, run.precision, cuda=run.machine.cuda)
    base_score, base_sample = _measure(model, run, "base")
    output_dir.mkdir(parents=True, exist_ok=True)
    metrics, seconds = _fit(model, run, output_dir)
    score, sample = _measure(model, run, "adapter")

    result = TrainResult(
        documents=run.data.documents,
        rows=len(run.data.rows),
        steps=run.length.steps,
        epochs=run.length.epochs,
        tokens=metrics.points[-1].tokens,
        seconds=seconds,
        base=base_score,
        adapter=score,
        samples={"base": base_sample, "adapter": sample},
        engine=run.engine,
        precision=run.precision,
    )
    save_adapter(model, base, output_dir)
    save_reports(result, run.data, metrics.points, run.held_out, settings, base, output_dir)
    _record_mixture(run, output_dir / RUN)
    return result


def _prepare(
    settings: TrainSettings,
    schedule: Schedule | None,
    train_documents: Sequence[HasText],
    validation_documents: Sequence[HasText],
    base: BaseModel,
) -> _Run:
    machine = Machine.detect()
    engine = start_engine(machine, settings.engine)  # before anything imports transformers
    quiet_libraries()
    from transformers import AutoTokenizer

    with loading(base):
        tokenizer = AutoTokenizer.from_pretrained(
            base.path, local_files_only=True, trust_remote_code=False
        )
    window = min(WINDOW_TOKENS, context_length(base.path) or WINDOW_TOKENS)
    held_out = windows(
        tokenizer, validation_documents, length=window, max_tokens=settings.eval_tokens
    )
    data = training_data(tokenizer, train_documents, settings.sequence_length)
    mixture, order = _mix(settings, schedule, data)
    if mixture is None or order is None:
        length = plan(settings, len(data.rows), data.tokens)
    else:
        length = _plan_of(mixture, order)
        _warn_of_what_is_not_read(mixture, length, validation_documents)
    return _Run(
        settings=settings,
        base=base,
        tokenizer=tokenizer,
        held_out=held_out,
        data=data,
        mixture=mixture,
        order=order,
        length=length,
        machine=machine,
        engine=engine,
        precision=choose_precision(machine),
    )


def _mix(
    settings: TrainSettings, schedule: Schedule | None, data: TrainingData
) -> tuple[Mixture | None, list[int] | None]:
    """The mixture and the order of the rows of the whole run, if the sources are weighted."""
    if schedule is None:
        return None, None
    mixture = Mixture(
        schedule,
        [len(row) for row in data.rows],
        data.collections,
        settings.seed,
        settings.batch_size * settings.gradient_accumulation,
    )
    tokens = mixture.tokens * (settings.epochs or 1.0)
    return mixture, mixture.take(steps=settings.max_steps, tokens=tokens)


def _plan_of(mixture: Mixture, order: list[int]) -> Plan:
    tokens = sum(mixture.lengths[row] for row in order)
    return Plan(len(order) // mixture.rows_per_step, tokens / mixture.tokens, tokens)


def _warn_of_what_is_not_read(mixture: Mixture, length: Plan, held_out: Sequence[HasText]) -> None:
    for start, _ in mixture.schedule.stages:
        if start >= length.steps:
            warn(f"The weights from step {start} on are never used: {length.steps} steps are all.")
    weighted = {collection_of(d): getattr(d, "weight", None) for d in held_out}
    for name, weight in weighted.items():
        if weight and name not in mixture.collections:
            warn(f"The source {name!r} is held out entirely: nothing of it is trained on.")


def _announce(run: _Run) -> None:
    data, length = run.data, run.length
    say(
        f"Train: {_many(data.documents, 'document')}, {data.characters:,} characters, "
        f"{data.tokens:,} tokens in {_many(len(data.rows), 'row')}. Held out: "
        f"{sum(w.predicted for w in run.held_out):,} tokens of "
        f"{_many(len({w.document for w in run.held_out}), 'document')}."
    )
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
            run.settings.sample_prompt,
            max_new_tokens=run.settings.sample_tokens,
            seed=run.settings.seed,
            autocast=autocast,
        )
    say(f"Held out, {which}: {score.bits_per_byte:.4f} bits per byte.")
    return score, sample


def _fit(model: Any, run: _Run, output_dir: Path) -> tuple[MetricsWriter, float]:
    """Train; returns the metrics and the seconds that it took."""
    import torch
    from transformers import PrinterCallback
    from trl import SFTTrainer

    # A tokenizer without a pad token pads with its end token: padding is known by the mask.
    pad_id = run.tokenizer.pad_token_id
    collator = BlockCollator(run.tokenizer.eos_token_id if pad_id is None else pad_id)
    with (
        (output_dir / METRICS).open("w", encoding="utf-8") as file,
        progress("Training", run.length.steps, "steps") as advance,
    ):
        metrics = MetricsWriter(file, advance)
        trainer = SFTTrainer(
            model=model,
            args=_arguments(run, output_dir),
            data_collator=collator,
            train_dataset=_dataset(run),
            processing_class=run.tokenizer,
            callbacks=[_metrics_callback(metrics)],
        )
        trainer.remove_callback(PrinterCallback)
        start = time.perf_counter()
        try:
            output = trainer.train()
        except torch.OutOfMemoryError as error:
            raise PipelineError(
                "The GPU's memory is full.", "Lower --sequence-length or --batch-size."
            ) from error
        seconds = time.perf_counter() - start
    check_finite("loss", output.training_loss, output.global_step)
    if output.global_step != run.length.steps:
        raise PipelineError(f"Training ended at step {output.global_step} of {run.length.steps}.")
    return metrics, seconds


def _dataset(run: _Run) -> Any:
    """The rows. With a mixture those of the whole run, in order, so that one pass is the run.

    The order then needs nothing of the trainer but to read on, whatever is accumulated, and to
    skip what is done when it resumes.
    """
    from datasets import Dataset

    dataset = Dataset.from_dict({"input_ids": run.data.rows})
    return dataset if run.order is None else dataset.select(run.order)


def _arguments(run: _Run, output_dir: Path) -> Any:
    from trl import SFTConfig

    settings, cuda = run.settings, run.machine.cuda
    scheduler = {"constant": "constant_with_warmup"}.get(settings.scheduler, settings.scheduler)
    return SFTConfig(
        output_dir=str(output_dir),
        max_steps=run.length.steps,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=scheduler,
        warmup_steps=settings.warmup,  # below 1 it is a share
        weight_decay=settings.weight_decay,
        seed=settings.seed,  # of dropout, and of the order of rows
        train_sampling_strategy="random" if run.order is None else "sequential",
        bf16=run.precision.name == "bfloat16",
        fp16=run.precision.name == "float16",
        use_cpu=not cuda,
        # Recomputing activations costs a fifth of the time and saves memory, which GPUs lack.
        gradient_checkpointing=cuda,
        max_length=None,  # rows have their length already
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_pin_memory=cuda,
        logging_steps=settings.log_every,
        include_num_input_tokens_seen="non_padding",
        logging_nan_inf_filter=False,  # it would hide from us what must stop the run
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _metrics_callback(metrics: MetricsWriter) -> Any:
    from transformers import TrainerCallback

    class Callback(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            metrics.start()

        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            metrics.step_done()
            # The last steps are always logged, so that the file accounts for every token.
            control.should_log |= state.global_step == state.max_steps

        def on_log(
            self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any
        ) -> None:
            metrics.log(state.global_step, logs or {})

    return Callback()
