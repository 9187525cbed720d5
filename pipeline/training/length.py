"""How long a run is: epochs, steps and tokens, each converted into the others."""

import math
from dataclasses import dataclass

from pipeline.console import many
from pipeline.errors import UsageError
from pipeline.training.schedules import warmup_steps
from pipeline.training.settings import TrainSettings


@dataclass(frozen=True)
class Plan:
    """The length of a run in every unit, and what one step of it is.

    `tokens` are those read in the whole run, about: the last rows of documents are shorter.
    `trained` are those of them that count in the loss; None where that is all, as with texts.
    """

    steps: int
    epochs: float
    tokens: int
    warmup_steps: int = 0
    sequences_per_step: int = 1
    micro_batch: int = 1
    trained: int | None = None

    @property
    def accumulation(self) -> int:
        """How many micro batches make a step."""
        return self.sequences_per_step // self.micro_batch

    def describe(self) -> str:
        """The length in every unit, and what a step is: a sentence without its full stop."""
        tokens = f"about {self.tokens:,} tokens"
        if self.trained is not None and self.trained < self.tokens:
            tokens += f", {self.trained:,} of them trained on"
        step = f"{many(self.sequences_per_step, 'sequence')} a step"
        if self.accumulation > 1:
            step += f" ({self.micro_batch} at a time, {self.accumulation} times)"
        warmup = f"{many(self.warmup_steps, 'step')} of warm-up" if self.warmup_steps else ""
        parts = ", ".join(filter(None, (step, warmup or "no warm-up")))
        return f"{many(self.steps, 'step')} = {_epochs(self.epochs)} = {tokens}; {parts}"

    def notes(self) -> list[str]:
        """What is odd about this run and may be meant: a sentence each."""
        found = []
        if self.epochs < 1 - 1e-9:
            share = 100 * self.epochs
            found.append(
                f"The run sees {share:.{1 if share < 10 else 0}f} % of the training data: "
                f"one epoch is {many(round(self.steps / self.epochs), 'step')}."
            )
        if 2 * self.warmup_steps > self.steps:
            found.append(
                f"The warm-up of {many(self.warmup_steps, 'step')} takes more than half of the "
                f"{many(self.steps, 'step')}: most of the run learns at a low rate. "
                "Lower --warmup."
            )
        return found


def check_batch(settings: TrainSettings) -> None:
    """Raise UsageError, naming what would do, if a step cannot be made of micro batches."""
    option = "--batch-size"
    if settings.batch_tokens is not None:
        if settings.batch_size != TrainSettings.batch_size:
            raise UsageError("Give --batch-size or --batch-tokens, not both.")
        if 2 * settings.batch_tokens < settings.sequence_length:
            raise UsageError(
                f"--batch-tokens {settings.batch_tokens} is less than one sequence of "
                f"--sequence-length {settings.sequence_length} tokens.",
                f"Give at least {settings.sequence_length}, or shorten the sequences.",
            )
        option = "--batch-tokens"
    if settings.micro_batch_size is not None:
        _check_divides(
            settings.sequences_per_step, settings.micro_batch_size, option, settings.sequence_length
        )


def plan(
    settings: TrainSettings, n_sequences: int, n_tokens: int, n_trained: int | None = None
) -> Plan:
    """Convert one unit into the others.

    Steps are full but for the last: where an epoch ends within one, the next fills it up.

    Args:
        n_sequences: what there is to train on, at least one.
        n_tokens: in all of them together.
        n_trained: of these, those that count in the loss, which `--tokens` is about; None for all.

    Raises UsageError as `check_batch` does.
    """
    check_batch(settings)
    if settings.max_steps is not None:
        sequences = settings.max_steps * settings.sequences_per_step
    elif settings.tokens is not None:
        sequences = -(-settings.tokens * n_sequences // (n_trained or n_tokens))
    else:
        # Rounded, as 100 * 1.1 is a hair more than 110.
        sequences = math.ceil(round(n_sequences * (settings.epochs or 1.0), 6))
    sequences = max(1, sequences)
    epochs = sequences / n_sequences
    return plan_of(
        settings, math.ceil(sequences / settings.sequences_per_step), epochs,
        round(n_tokens * epochs), None if n_trained is None else round(n_trained * epochs),
    )  # fmt: skip


def plan_of(
    settings: TrainSettings, steps: int, epochs: float, tokens: int, trained: int | None = None
) -> Plan:
    """The plan of a run whose length is known, as that of a mixture is."""
    return Plan(
        steps=steps,
        epochs=epochs,
        tokens=tokens,
        warmup_steps=warmup_steps(settings.warmup, steps),
        sequences_per_step=settings.sequences_per_step,
        micro_batch=settings.micro_batch_size or 1,
        trained=trained,
    )


def tokens_wanted(settings: TrainSettings, n_trained: float) -> float:
    """The tokens to train on in the whole run where their number decides, as in a mixture of
    `n_trained`: those asked for, or as many epochs.
    """
    if settings.tokens is not None:
        return float(settings.tokens)
    return n_trained * (settings.epochs or 1.0)


def _check_divides(per_step: int, micro: int, option: str, sequence_length: int = 1) -> None:
    if per_step % micro == 0:
        return
    unit = sequence_length if option == "--batch-tokens" else 1
    below, above = per_step // micro * micro, -(-per_step // micro) * micro
    near = [below * unit, above * unit] if below else [above * unit]
    if below and per_step - below > above - per_step:
        near.reverse()
    divisor = next(n for n in range(min(micro, per_step), 0, -1) if per_step % n == 0)
    many = f" ({per_step} sequences)" if unit > 1 else ""
    raise UsageError(
        f"{option} {per_step * unit}{many} is no multiple of --micro-batch-size {micro}.",
        f"Give {option} {' or '.join(map(str, near))}, or --micro-batch-size {divisor}.",
    )


def _epochs(epochs: float) -> str:
    digits = 2 if epochs >= 0.1 else 4
    text = f"{epochs:,.{digits}f}"
    return f"{text} epoch" if text == "1.00" else f"{text} epochs"
