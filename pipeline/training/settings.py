"""What a training run is told, checked before anything heavy is loaded."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.corpus.encoding import OVERLONG, Overlong
from pipeline.corpus.tokens import MINIMUM_BLOCK
from pipeline.errors import PipelineError, UsageError
from pipeline.scoring.bits import EVAL_TOKENS

ENGINES = ("auto", "unsloth", "trl")
SCHEDULERS = ("cosine", "linear", "constant")
ENDS = ("document", "chunk")
DEFAULT_PROMPT = "I was walking on the shore, when I saw something peculiar burrowing in the sand."


@dataclass(frozen=True)
class TrainSettings:
    """The settings of a run. Length: `max_steps` or `epochs`, not both; neither is one epoch."""

    max_steps: int | None = None
    epochs: float | None = None
    # 2e-4 is the usual rate for LoRA: safe for runs of thousands of steps. Runs of some dozen
    # steps learn more at 5e-4 to 1e-3.
    learning_rate: float = 2e-4
    rank: int = 16
    # The adapter's output is scaled by alpha / rank. Twice the rank keeps that factor at 2.
    alpha: int = 32
    dropout: float = 0.0
    sequence_length: int = 1024
    batch_size: int = 1
    gradient_accumulation: int = 1
    # Below 1 a share of all steps, from 1 on a number of steps.
    warmup: float = 0.05
    scheduler: str = "cosine"
    weight_decay: float = 0.0
    seed: int = 42
    eval_tokens: int = EVAL_TOKENS
    sample_prompt: str = DEFAULT_PROMPT
    sample_tokens: int = 80
    log_every: int = 1
    # "auto" takes unsloth where it and a GPU are, else plain TRL.
    engine: str = "auto"
    # Rows of short documents share a sequence, without seeing each other.
    packing: bool = True
    # Tokens that a block of a long document repeats from the last one, as context.
    stride: int = 0
    # Of records longer than a sequence. Only split loses nothing: to drop them or to cut off their
    # ends teaches a model that answers are short.
    overlong: Overlong = "split"
    # Jinja, "plain", or None for the tokenizer's own.
    chat_template: str | None = None
    # Where texts end: "chunk" makes each chunk a document of its own.
    eos: str = "document"
    # Weights of the sources in place of those that the data has; see `parse_mix`.
    mix: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise UsageError, naming the option, for the first setting that makes no sense."""
        if self.max_steps is not None and self.epochs is not None:
            raise UsageError("Give --max-steps or --epochs, not both.")
        for name, known in (
            ("scheduler", SCHEDULERS),
            ("engine", ENGINES),
            ("overlong", OVERLONG),
            ("eos", ENDS),
        ):
            value = getattr(self, name)
            if value not in known:
                raise UsageError(
                    f"{_option(name)} {value!r} is unknown.", f"Known: {', '.join(known)}."
                )
        for name, least in (
            ("max_steps", 1),
            ("rank", 1),
            ("sequence_length", MINIMUM_BLOCK),
            ("batch_size", 1),
            ("gradient_accumulation", 1),
            ("seed", 0),
            ("eval_tokens", 1),
            ("sample_tokens", 1),
            ("log_every", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"{_option(name)} must be at least {least}, not {value}.")
        for name in ("learning_rate", "alpha", "epochs"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{_option(name)} must be above 0, not {value}.")
        for name in ("warmup", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{_option(name)} must not be negative: {getattr(self, name)}.")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"--dropout must lie between 0 and 1, not {self.dropout}.")
        if not 0 <= self.stride < self.sequence_length:
            raise UsageError(
                f"--stride {self.stride} must be below --sequence-length {self.sequence_length}."
            )
        parse_mix(self.mix)

    def check_against(self, model_dir: Path) -> None:
        """Raise UsageError if the model in `model_dir` cannot see `sequence_length` tokens."""
        context = context_length(model_dir)
        if context is not None and self.sequence_length > context:
            raise UsageError(
                f"--sequence-length {self.sequence_length} exceeds the {context} tokens that the "
                f"model in {model_dir} can see.",
                f"Choose {context} or less.",
            )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for YAML and JSON."""
        return asdict(self) | {"mix": list(self.mix)}


def parse_mix(values: Sequence[str]) -> dict[int, dict[str, float]]:
    """Read `--mix`: the weights of the sources by the number of steps after which they hold.

    `novels=0.7,letters=0.3` holds from the start on, `500:novels=0.2,letters=0.8` once 500 steps
    are done. Weights are ratios and need not sum to 1.

    Raises:
        UsageError: a value has another form, a weight is no number from 0 on, all weights are 0,
            or a source or a step is given twice.
    """
    changes: dict[int, dict[str, float]] = {}
    for value in values:
        match = re.fullmatch(r"(?:([0-9]{1,9}):)?(.*)", value, re.DOTALL)
        step = int(match[1]) if match and match[1] else 0
        if step in changes:
            raise UsageError(f"--mix is given twice for step {step}: {value!r} is the second.")
        changes[step] = _weights(value, match[2] if match else value)
    return changes


def _weights(value: str, text: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.rpartition("="))
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not (name and equals and 0 <= weight < math.inf):
            raise UsageError(
                f"--mix {value!r} must be NAME=WEIGHT,NAME=WEIGHT; {part.strip()!r} is not.",
                "For example --mix novels=0.7,letters=0.3, or from step 500 on: "
                "--mix 500:novels=0.2,letters=0.8.",
            )
        if name in weights:
            raise UsageError(f"--mix {value!r} names {name!r} twice.")
        weights[name] = weight
    if not any(weights.values()):
        raise UsageError(f"--mix {value!r} has no weight above 0: nothing would be trained on.")
    return weights


@dataclass(frozen=True)
class Plan:
    """The length of a run in every unit."""

    steps: int
    epochs: float
    tokens: int  # about: the last rows of documents are shorter


def plan(settings: TrainSettings, n_sequences: int, n_tokens: int) -> Plan:
    """Convert steps into epochs or epochs into steps, for so many sequences of so many tokens."""
    batches = math.ceil(n_sequences / settings.batch_size)
    steps_per_epoch = math.ceil(batches / settings.gradient_accumulation)
    if settings.max_steps is not None:
        steps = settings.max_steps
    else:
        steps = math.ceil(steps_per_epoch * (settings.epochs or 1.0))
    epochs = steps / steps_per_epoch
    return Plan(steps, epochs, round(n_tokens * epochs))


def context_length(model_dir: Path) -> int | None:
    """How many tokens the model sees at once, by its config.json; None if it does not say."""
    path = model_dir / "config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise PipelineError(f"{path} cannot be read: {error}.") from error
    for part in (config, config.get("text_config", {})):
        for key in ("max_position_embeddings", "n_positions", "max_sequence_length"):
            if isinstance(part.get(key), int):
                return int(part[key])
    return None


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
