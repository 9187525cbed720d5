"""What a training run is told, checked before anything heavy is loaded."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.corpus.encoding import OVERLONG, Overlong
from pipeline.corpus.tokens import MINIMUM_BLOCK
from pipeline.errors import PipelineError, UsageError
from pipeline.scoring.bits import EVAL_TOKENS
from pipeline.training.methods import METHODS, PRESETS
from pipeline.training.mix_option import parse_mix
from pipeline.training.save_policy import KEEP_LAST, SAVE_MINUTES, SavePolicy, make_policy

ENGINES = ("auto", "unsloth", "trl")
SCHEDULERS = ("cosine", "linear", "constant", "wsd")
OPTIMIZERS = ("adamw", "adamw-8bit", "adafactor")
PRECISIONS = ("auto", "bf16", "fp16", "fp32")
REPORTS = ("tensorboard", "wandb", "trackio")
ENDS = ("document", "chunk")
EVEN, RANDOM = "even", "random"
ORDERS = ("auto", EVEN, RANDOM)
MISSING_SEGMENT = ("fail", "skip")
SEEDS = 2**32  # numpy takes no others
OF_ADAPTERS = ("rank", "alpha", "rslora", "dropout", "target_modules")
NOT_OF_THE_RESULT = frozenset(
    {"report_to", "price_per_hour", "profile_steps", "log_every", "save_steps", "save_minutes",
     "keep_last", "keep_every", "steps_per_round", "segments_per_round", "missing_segment"}
)  # fmt: skip
DEFAULT_PROMPTS = (
    "I was walking on the shore, when I saw something peculiar burrowing in the sand.",
    "The door at the end of the corridor, locked since my uncle's death, stood open.",
    "“You have not told me everything,” she said, and laid the letter on the table.",
)


@dataclass(frozen=True)
class TrainSettings:
    """The settings of a run.

    Length: one of `max_steps`, `epochs` and `tokens`; none is one epoch. What is None here and
    depends on the method has a property that fills it in: `peak_learning_rate`, `lora_alpha`.
    """

    max_steps: int | None = None
    epochs: float | None = None
    tokens: int | None = None
    # "lora", "qlora", "qlora8", "dora" or "full"; see `methods`.
    method: str = "lora"
    learning_rate: float | None = None
    rank: int = 64
    # The adapter's output is scaled by alpha / rank, with `rslora` by alpha / sqrt(rank).
    alpha: int | None = None
    rslora: bool = False
    dropout: float = 0.0
    # Last parts of the names of layers, or patterns; none: all linear layers but the output head.
    target_modules: tuple[str, ...] = ()
    # "linear:2", "dynamic:2", "yarn:4", or "auto": as much as `sequence_length` needs.
    rope_scaling: str | None = None
    # The config.json of a model that is to be trained from nothing, with the base's tokenizer.
    from_scratch: str | None = None
    # Spread one model over all GPUs of this machine.
    split_model: bool = False
    # Recompute activations in the backward pass; None: on a GPU, where memory is what lacks.
    gradient_checkpointing: bool | None = None
    # New tokens, read from the file of `--extra-tokens`.
    extra_tokens: tuple[str, ...] = ()
    sequence_length: int = 1024
    # Sequences per optimizer step, or as many as make so many tokens.
    batch_size: int = 1
    batch_tokens: int | None = None
    # Sequences computed together; None: as many as memory takes on a GPU, one on a CPU.
    micro_batch_size: int | None = None
    # Below 1 a share of all steps, from 1 on a number of steps.
    warmup: float = 0.05
    scheduler: str = "linear"
    # Of "wsd": the share of the steps in which the rate falls, at the end.
    decay: float = 0.2
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.95
    max_grad_norm: float = 1.0
    # "even": as much of each text, as far as it goes; "random": from all alike; "auto": even where
    # the run is shorter than an epoch.
    order: str = "auto"
    seed: int = 42
    precision: str = "auto"
    eval_tokens: int = EVAL_TOKENS
    # Steps between scores on the held-out text; None: a quarter of the run; 0: only at the ends.
    eval_every: int | None = None
    keep_best: bool = True
    sample_prompts: tuple[str, ...] = DEFAULT_PROMPTS
    sample_tokens: int = 80
    log_every: int = 1
    # "tensorboard", "wandb", "trackio": where they are installed and asked for.
    report_to: tuple[str, ...] = ()
    price_per_hour: float | None = None
    # When a checkpoint is made, and which of them stay; see `save_policy`.
    save_steps: int | None = None
    save_minutes: float = SAVE_MINUTES
    keep_last: int = KEEP_LAST
    keep_every: str | None = None
    # Stop after so many steps, with exit code 33; the same command goes on.
    steps_per_round: int | None = None
    # The same at the end of every so many segments of a series.
    segments_per_round: int | None = None
    # What to do about a segment that is listed and has no text: "fail" or "skip".
    missing_segment: str = "fail"
    # Steps to record with torch's profiler, after the first three.
    profile_steps: int = 0
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

    @property
    def trains_everything(self) -> bool:
        """Whether the whole model is trained, and no adapter."""
        return self.method == "full" or self.from_scratch is not None

    @property
    def sequences_per_step(self) -> int:
        """Sequences per optimizer step."""
        if self.batch_tokens is None:
            return self.batch_size
        return max(1, round(self.batch_tokens / self.sequence_length))

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate as given, or as suits the method."""
        name = "scratch" if self.from_scratch else self.method
        return self.learning_rate or PRESETS[name].learning_rate

    @property
    def lora_alpha(self) -> int:
        """Alpha as given, or twice the rank, so that the adapter's factor is 2."""
        return self.alpha or 2 * self.rank

    def check(self) -> None:
        """Raise UsageError, naming the option, for the first setting that makes no sense."""
        lengths = [n for n in ("max_steps", "epochs", "tokens") if getattr(self, n) is not None]
        if len(lengths) > 1:
            raise UsageError(f"Give {' or '.join(map(_option, lengths))}, not both.")
        for name, known in (
            ("method", tuple(METHODS)),
            ("scheduler", SCHEDULERS),
            ("order", ORDERS),
            ("optimizer", OPTIMIZERS),
            ("precision", PRECISIONS),
            ("engine", ENGINES),
            ("overlong", OVERLONG),
            ("eos", ENDS),
            ("missing_segment", MISSING_SEGMENT),
        ):
            _check_known(name, getattr(self, name), known)
        for value in self.report_to:
            _check_known("report_to", value, REPORTS)
        for name, least in (
            ("max_steps", 1),
            ("tokens", 1),
            ("rank", 1),
            ("sequence_length", MINIMUM_BLOCK),
            ("batch_size", 1),
            ("batch_tokens", 1),
            ("micro_batch_size", 1),
            ("seed", 0),
            ("eval_tokens", 1),
            ("eval_every", 0),
            ("sample_tokens", 1),
            ("profile_steps", 0),
            ("steps_per_round", 1),
            ("segments_per_round", 1),
            ("log_every", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"{_option(name)} must be at least {least}, not {value}.")
        for name in ("learning_rate", "alpha", "epochs", "max_grad_norm", "price_per_hour"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{_option(name)} must be above 0, not {value}.")
        for name in ("warmup", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{_option(name)} must not be negative: {getattr(self, name)}.")
        for name in ("dropout", "decay", "beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(
                    f"{_option(name)} must be from 0 to below 1, not {getattr(self, name)}."
                )
        if not 0 <= self.stride < self.sequence_length:
            raise UsageError(
                f"--stride {self.stride} must be below --sequence-length {self.sequence_length}."
            )
        if self.seed >= SEEDS:
            raise UsageError(f"--seed must be below {SEEDS}, not {self.seed}.")
        if not all(prompt.strip() for prompt in self.sample_prompts):
            raise UsageError(
                "--sample-prompt must not be empty.", "Give words for the model to go on from."
            )
        self._check_adapter()
        parse_mix(self.mix)
        self.save_policy()

    def _check_adapter(self) -> None:
        if not self.trains_everything:
            return
        how = "--from-scratch" if self.from_scratch else f"--method {self.method}"
        for name in OF_ADAPTERS:
            if getattr(self, name) != getattr(TrainSettings, name):
                raise UsageError(
                    f"{_option(name)} is for adapters, and {how} trains every weight.",
                    f"Leave out {_option(name)}, or {how} to train an adapter.",
                )

    def save_policy(self) -> SavePolicy:
        """When to save, and what to keep. Raises UsageError."""
        return make_policy(self.save_steps, self.save_minutes, self.keep_last, self.keep_every)

    def check_against(self, model_dir: Path) -> None:
        """Raise UsageError if the model in `model_dir` cannot see `sequence_length` tokens."""
        if self.rope_scaling is None and self.from_scratch is None:
            context = context_length(model_dir)
        else:
            from pipeline.training.configs import run_context

            context = run_context(self, model_dir)
        if context is not None and self.sequence_length > context:
            raise UsageError(
                f"--sequence-length {self.sequence_length} exceeds the {context} tokens that the "
                f"model in {model_dir} can see.",
                f"Choose {context} or less, or add --rope-scaling auto.",
            )

    def of_the_result(self) -> dict[str, Any]:
        """Those that change what comes out of a run, and not only what is seen or saved of it."""
        return {k: v for k, v in self.as_dict().items() if k not in NOT_OF_THE_RESULT}

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for YAML and JSON."""
        values = asdict(self) | {
            "learning_rate": self.peak_learning_rate, "alpha": self.lora_alpha
        }  # fmt: skip
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


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


def _check_known(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"{_option(name)} {value!r} is unknown.", f"Known: {', '.join(known)}.")
