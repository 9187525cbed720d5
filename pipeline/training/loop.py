"""The loop itself: TRL's SFTTrainer on sequences of ready token ids."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.console import progress
from pipeline.errors import PipelineError
from pipeline.training.batches import TOKENS, Collator, Sequences, check_isolation
from pipeline.training.dataset import TrainingData
from pipeline.training.engine import Precision
from pipeline.training.metrics import MetricsWriter, check_finite
from pipeline.training.settings import TrainSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Loop:
    """What the loop is told. `order` has the sequences of the whole run, where there is a mixture;
    else they are drawn."""

    settings: TrainSettings
    data: TrainingData
    order: Sequence[int] | None
    steps: int
    tokenizer: "PreTrainedTokenizerBase"
    pad_id: int
    precision: Precision
    cuda: bool


@dataclass(frozen=True)
class Fitted:
    """What the loop came to: seconds of training alone, and positions, those of padding too."""

    metrics: MetricsWriter
    seconds: float
    positions: int


def fit(model: Any, loop: Loop, metrics_path: Path) -> Fitted:
    """Train `model` in place, and write metrics line by line.

    Raises PipelineError: the loss is no number, the GPU's memory is full, or the model cannot keep
    packed rows apart.
    """
    import torch
    from transformers import PrinterCallback

    if any(len(sequence) > 1 for sequence in loop.data.sequences):
        check_isolation(model, loop.precision.autocast)
    with (
        metrics_path.open("w", encoding="utf-8") as file,
        progress("Training", loop.steps, "steps") as advance,
    ):
        metrics = MetricsWriter(file, advance)
        trainer = _trainer_class()(
            model=model,
            args=_arguments(loop, metrics_path.parent),
            data_collator=Collator(loop.pad_id, packed=loop.data.packed),
            train_dataset=_dataset(loop),
            processing_class=loop.tokenizer,
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
    if output.global_step != loop.steps:
        raise PipelineError(f"Training ended at step {output.global_step} of {loop.steps}.")
    return Fitted(metrics, seconds, trainer.positions)


def _trainer_class() -> Any:
    """SFTTrainer, but that it counts what is trained on: not by ids, as pad may be the end token,
    and not by an attention mask, which packed batches have not."""
    from trl import SFTTrainer

    class Trainer(SFTTrainer):  # type: ignore[misc, unused-ignore]
        positions = 0

        def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **rest: Any) -> Any:
            self.state.num_input_tokens_seen += inputs.pop(TOKENS)
            self.positions += inputs["input_ids"].numel()
            return super().training_step(model, inputs, *args, **rest)

    return Trainer


def _dataset(loop: Loop) -> Any:
    """The sequences. With a mixture those of the whole run, in order, so that one pass is the run.

    The order then needs nothing of the trainer but to read on, whatever is accumulated, and to
    skip what is done when it resumes.
    """
    return Sequences(loop.data.store, loop.data.sequences).as_dataset(loop.order)


def _arguments(loop: Loop, output_dir: Path) -> Any:
    from trl import SFTConfig

    settings, cuda = loop.settings, loop.cuda
    scheduler = {"constant": "constant_with_warmup"}.get(settings.scheduler, settings.scheduler)
    return SFTConfig(
        output_dir=str(output_dir),
        max_steps=loop.steps,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=scheduler,
        warmup_steps=settings.warmup,  # below 1 it is a share
        weight_decay=settings.weight_decay,
        seed=settings.seed,  # of dropout, and of the order of rows
        train_sampling_strategy="random" if loop.order is None else "sequential",
        bf16=loop.precision.name == "bfloat16",
        fp16=loop.precision.name == "float16",
        use_cpu=not cuda,
        # Recomputing activations costs a fifth of the time and saves memory, which GPUs lack.
        gradient_checkpointing=cuda,
        max_length=None,  # rows have their length already
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        dataloader_pin_memory=cuda,
        logging_steps=settings.log_every,
        include_num_input_tokens_seen="no",  # counted by the trainer above
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
            seen = {"num_input_tokens_seen": state.num_input_tokens_seen}
            metrics.log(state.global_step, {**(logs or {}), **seen})

    return Callback()
