"""The loop itself: TRL's SFTTrainer on sequences of ready token ids."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.console import say
from pipeline.errors import PipelineError, Stopped
from pipeline.training.batches import TOKENS, Collator, Sequences
from pipeline.training.best import Best
from pipeline.training.checkpointing import Due, RunCheckpoints
from pipeline.training.dataset import TrainingData
from pipeline.training.engine import Precision
from pipeline.training.evaluation import Evaluation, Evaluator, Interrupted
from pipeline.training.fast import FastLoss, fast_on_cpu
from pipeline.training.metrics import check_finite
from pipeline.training.monitor import Monitor
from pipeline.training.optimizer import make_optimizer, make_scheduler
from pipeline.training.requests import Requests
from pipeline.training.run_state import Parts, Progress, load_random, load_scaler, load_state
from pipeline.training.segments import Cursor, Segments
from pipeline.training.settings import TrainSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EVALUATIONS = 4  # during a run, unless told otherwise
LAST = "adapter"  # the name of what is trained, in the record of evaluations

Publish = Callable[[Any, Evaluation], None]  # a model's weights, with their score


@dataclass(frozen=True)
class Loop:
    """What the loop is told. `order` has the sequences of the whole run."""

    settings: TrainSettings
    data: TrainingData
    order: Sequence[int]
    steps: int
    micro_batch: int
    tokenizer: "PreTrainedTokenizerBase"
    pad_id: int
    precision: Precision
    cuda: bool
    segments: Segments | None = None

    def cursor(self, sequences: int) -> Cursor | None:
        """Where the run is in its series once so many sequences are read; None if it has none."""
        return self.segments.cursor(sequences, len(self.order)) if self.segments else None


@dataclass(frozen=True)
class Watchers:
    """Who looks on: the monitor at every step, at some the evaluator; who saves the run, and who
    publishes weights that are the best so far."""

    monitor: Monitor
    evaluator: Evaluator
    best: Best | None
    saves: RunCheckpoints | None = None
    publish: Publish | None = None


@dataclass(frozen=True)
class Fitted:
    """What the loop came to: tokens, and positions, those of padding too."""

    tokens: int
    positions: int


def eval_every(settings: TrainSettings, steps: int) -> int:
    """Steps between evaluations; 0 for none but the last."""
    every = settings.eval_every
    return max(1, round(steps / EVALUATIONS)) if every is None else every


def fit(model: Any, loop: Loop, watchers: Watchers, folder: Path) -> Fitted:
    """Train `model` in place, looked on by `watchers`. `folder` is where the run's metrics are.

    Raises:
        Stopped: on request, or at the end of a round; the run is saved.
        PipelineError: the loss is no number, or the GPU's memory is full.
    """
    import torch
    from transformers import PrinterCallback

    optimizer = make_optimizer(model, loop.settings)
    parts = Parts(model, optimizer, make_scheduler(optimizer, loop.settings, loop.steps))
    found = watchers.saves.found if watchers.saves else None
    done = load_state(found.path, parts) if found else Progress()
    session = _Session(loop, watchers, parts, done, folder)
    faster = nullcontext() if loop.cuda else fast_on_cpu(model, loop.precision.autocast)
    if done.step >= loop.steps:  # it was stopped after its last step
        watchers.monitor.begin()
        with faster:
            session.make_up()
        return Fitted(done.tokens, done.positions)
    watchers.monitor.last_good = str(found.path) if found else None
    rest = loop.order[done.sequences :]
    try:
        with faster as fast_loss, session.requests if watchers.saves else nullcontext():
            trainer = _trainer_class(session, fast_loss)(
                model=model,
                args=_arguments(model, loop, folder),
                data_collator=Collator(loop.pad_id, packed=loop.data.packed),
                train_dataset=Sequences(loop.data.store, loop.data.sequences).as_dataset(rest),
                processing_class=loop.tokenizer,
                optimizers=(parts.optimizer, parts.scheduler),
            )
            trainer.add_callback(_callback(session, trainer))
            trainer.remove_callback(PrinterCallback)
            output = trainer.train()
    except Interrupted:  # before the first step: all is as it was saved
        raise _stopped(done.step, loop, "a signal") from None
    except torch.OutOfMemoryError as error:
        raise PipelineError(
            "The GPU's memory is full.", "Lower --sequence-length or --micro-batch-size."
        ) from error
    check_finite("loss", output.training_loss, output.global_step)
    if session.requests.stopping and not session.stopped_by:
        session.stopped_by = "a signal in its last step"  # all is saved; what comes after is not
    if session.stopped_by:
        raise _stopped(output.global_step, loop, session.stopped_by)
    if output.global_step != loop.steps:
        raise PipelineError(f"Training ended at step {output.global_step} of {loop.steps}.")
    return Fitted(trainer.state.num_input_tokens_seen, trainer.positions)


def _stopped(step: int, loop: Loop, why: str) -> Stopped:
    return Stopped(
        f"Stopped after step {step} of {loop.steps} ({why}), and saved.",
        "The same command, without --resume, goes on from there.",
    )


@dataclass
class _Session:
    """One session of a run: `done` is what earlier ones did."""

    loop: Loop
    watchers: Watchers
    parts: Parts
    done: Progress
    folder: Path
    requests: Requests = field(default_factory=Requests)
    due: Due | None = None
    stopped_by: str | None = None
    cursor: Cursor | None = None

    def read(self, step: int) -> int:
        """How many sequences of its order the run has read after `step`."""
        more = (step - self.done.step) * self.loop.settings.sequences_per_step
        return min(self.done.sequences + more, len(self.loop.order))

    def follow(self, step: int) -> None:
        """Say which segment of a series begins, if one does after `step`."""
        now, before = self.loop.cursor(self.read(step)), self.cursor
        if now is not None and (before is None or str(now) != str(before)):
            say(f"Segment {now} from step {step + 1} on.")
        self.cursor = now

    def evaluate(self, step: int) -> None:
        """Score the model as it is now, and keep it if it is the best so far.

        Raises Interrupted if a signal asks for the end: it is made up for in the next session.
        """
        watchers, model = self.watchers, self.parts.model
        found = watchers.evaluator.evaluate(model, step, LAST, lambda: self.requests.stopping)
        watchers.monitor.evaluated(found)
        if watchers.best and watchers.best.offer(model, found) and watchers.publish:
            watchers.publish(model, found)

    def make_up(self) -> None:
        """Score what this session goes on with, if that was due and there was no time for it."""
        step, steps = self.done.step, self.loop.steps
        every = eval_every(self.loop.settings, steps)
        is_due = step >= steps or (every and step and not step % every)
        if is_due and step not in {score.step for score in self.watchers.monitor.held_out}:
            self.evaluate(step)

    def interrupted(self, step: int) -> None:
        """An evaluation was broken off: save, and end."""
        if self.watchers.saves:
            self.due = due = self.watchers.saves.due(step, self.requests)
            self.stopped_by = due.request.why if due.request else due.reason

    def save(self, progress: Progress) -> None:
        """Make the checkpoint that is due."""
        saves, due = self.watchers.saves, self.due
        if saves is None or due is None or due.reason is None:
            return
        saves.save(self.parts, progress, due.reason, self.folder, self.watchers.best)
        if saves.last:
            self.watchers.monitor.last_good = str(saves.last.path)
        if due.request is not None:
            self.requests.honoured(due.request)


def _trainer_class(session: _Session, fast_loss: FastLoss | None) -> Any:
    """SFTTrainer, but that it evaluates with our own measure, saves checkpoints of our own, and
    counts what is trained on: not by ids, as pad may be the end token, nor by an attention mask,
    which packed batches have not."""
    from trl import SFTTrainer

    monitor = session.watchers.monitor

    class Trainer(SFTTrainer):  # type: ignore[misc, unused-ignore]
        positions = session.done.positions

        def get_batch_samples(self, *args: Any, **rest: Any) -> Any:
            start = time.perf_counter()
            samples = super().get_batch_samples(*args, **rest)
            monitor.waited(time.perf_counter() - start)
            return samples

        def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **rest: Any) -> Any:
            self.state.num_input_tokens_seen += inputs.pop(TOKENS)
            self.positions += inputs["input_ids"].numel()
            return super().training_step(model, inputs, *args, **rest)

        def compute_loss(
            self,
            model: Any,
            inputs: dict[str, Any],
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            if fast_loss is not None and not return_outputs:
                loss = fast_loss(model, inputs, num_items_in_batch)
                if loss is not None:
                    return loss
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

        def evaluate(self, *args: Any, **rest: Any) -> dict[str, float]:
            try:
                session.evaluate(self.state.global_step)
            except Interrupted:
                session.interrupted(self.state.global_step)
                self.control.should_save = self.control.should_training_stop = True
            return {}

        def _save_checkpoint(self, *args: Any, **rest: Any) -> None:
            step, tokens = self.state.global_step, self.state.num_input_tokens_seen
            sequences = session.read(step)
            cursor = session.loop.cursor(sequences)
            session.save(
                Progress(
                    step, sequences, tokens, self.positions, monitor.seconds,
                    cursor.as_dict() if cursor else None, monitor.scoring_seconds,
                    monitor.total_seconds,
                )
            )  # fmt: skip

    return Trainer


def _arguments(model: Any, loop: Loop, output_dir: Path) -> Any:
    from trl import SFTConfig

    settings = loop.settings
    scales_logits = getattr(model.config, "logits_scaling", 1) != 1
    arguments = SFTConfig(
        output_dir=str(output_dir),
        max_steps=loop.steps,
        per_device_train_batch_size=loop.micro_batch,
        gradient_accumulation_steps=settings.sequences_per_step // loop.micro_batch,
        max_grad_norm=settings.max_grad_norm,
        seed=settings.seed,  # of dropout
        # One pass over the order is the run: whatever is accumulated, it only has to be read on.
        train_sampling_strategy="sequential",
        bf16=loop.precision.name == "bfloat16",
        fp16=loop.precision.name == "float16",
        use_cpu=not loop.cuda,
        gradient_checkpointing=False,  # see `loading`, where it is switched on
        # TRL's chunked loss knows nothing of logits that a model scales, as Granite does.
        loss_type="nll" if scales_logits else "chunked_nll",
        max_length=None,  # rows have their length already
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        dataloader_pin_memory=loop.cuda,
        logging_steps=settings.log_every,
        include_num_input_tokens_seen="no",  # counted by the trainer above
        logging_nan_inf_filter=False,  # it would hide from us what must stop the run
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # else DataParallel would multiply the batch
    return arguments


def _callback(session: _Session, trainer: Any) -> Any:
    from transformers import TrainerCallback

    monitor, saves = session.watchers.monitor, session.watchers.saves
    every = eval_every(session.loop.settings, session.loop.steps)

    class Callback(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            state.global_step = session.done.step
            state.num_input_tokens_seen = session.done.tokens
            trainer._globalstep_last_logged = session.done.step
            if (scaler := trainer.accelerator.scaler) is not None:
                session.parts = replace(session.parts, scaler=scaler)
                if saves and saves.found:
                    load_scaler(saves.found.path, scaler)
            monitor.begin()
            session.follow(session.done.step)
            session.make_up()

        def on_step_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            # Only now: the loader draws a random number when it is asked for its first batch.
            if saves and saves.found and state.global_step == session.done.step:
                load_random(saves.found.path)

        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            step = state.global_step
            monitor.step_done(step)
            session.follow(step)
            # The last steps are always logged, so that the file accounts for every token.
            is_last = step == state.max_steps
            control.should_log |= is_last
            control.should_evaluate = is_last or (every > 0 and step % every == 0)
            if saves is None:
                return
            session.due = due = saves.due(step, session.requests)
            control.should_save = due.reason is not None
            if due.ends:
                session.stopped_by = due.reason
                control.should_training_stop = control.should_log = True
                control.should_evaluate = False  # there may be no time; it is made up for

        def on_epoch_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            # The trainer would do once more what was asked for at the end of the last step.
            control.should_log = control.should_evaluate = control.should_save = False

        def on_log(
            self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any
        ) -> None:
            if logs and "loss" in logs:
                monitor.log(state.global_step, logs, state.num_input_tokens_seen)

    return Callback()
