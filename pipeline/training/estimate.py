"""The memory that a run needs, known before any weights are loaded.

    check_memory(settings, base_path, machine)
    check_disk(settings, base_path, folder)

Both need the model's configuration alone: names and shapes, on the meta device.

What each layer keeps for the backward pass was counted with autograd's own hooks, for the
architectures of Llama, GPT-2, Qwen 3 and Gemma 2. The peaks of whole runs lie up to a quarter
below these estimates, hardly ever above.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.console import megabytes, warn
from pipeline.errors import PipelineError
from pipeline.scoring.bits import WINDOW_TOKENS
from pipeline.training.configs import meta_model, run_config
from pipeline.training.engine import Machine, choose_precision
from pipeline.training.methods import METHODS
from pipeline.training.room import check_room, disk_needed, free_memory
from pipeline.training.settings import TrainSettings
from pipeline.training.sizes import FLOAT, Sizes, sizes_of

# The program with its libraries: on a CPU 500 MB when all are imported, 700 to 950 at work; on a
# GPU what CUDA's kernels and libraries take there, and what its allocator cannot use.
FLOOR_CPU, FLOOR_CUDA = 950_000_000, 1_000_000_000
FLOOR_BITSANDBYTES = 100_000_000
MARGIN = 1.1  # of activations: what comes and goes within a layer
SURE = 0.8  # what is estimated may be a quarter too much: below this share of it nothing can run
SHORTEST = 128  # tokens of a sequence; nothing shorter is advised

# NF4: half a byte for each weight, one for 64 of them, and four for 256 such (Dettmers et al. 2023)
BYTES_4BIT, BYTES_8BIT = 0.5 + 1 / 64 + 4 / 64 / 256, 1.01
# Both states in 8 bits, with a float32 for each block of 256.
BYTES_ADAMW_8BIT = 2 * (1 + FLOAT / 256)


@dataclass(frozen=True)
class Estimate:
    """What a run needs of memory, in bytes.

    `weights` are the model's own (and of a full training their copies in 16 bits), `trainable` is
    what is added to them, `floor` what the program itself takes. `shared` is in two of them but
    there once: gradients come as activations go, unless those of an earlier micro batch are there.
    `trained` is a number of weights.
    """

    weights: int
    trainable: int
    gradients: int
    optimizer: int
    activations: int
    floor: int
    trained: int
    shared: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return (
            self.weights + self.trainable + self.gradients + self.optimizer + self.activations
            + self.floor - self.shared
        )  # fmt: skip

    def describe(self) -> str:
        """One sentence with the whole and its parts."""
        parts = ", ".join(f"{name} {megabytes(size)}" for name, size in self._parts() if size)
        return f"The run needs about {megabytes(self.total)} of memory: {parts}."

    def _parts(self) -> Iterator[tuple[str, int]]:
        yield "weights", self.weights
        yield (
            "what is trained, with gradients and optimizer",
            (self.trainable + self.gradients + self.optimizer),
        )
        yield "activations", self.activations
        yield "the program itself", self.floor


def check_memory(
    settings: TrainSettings, base_path: Path, machine: Machine, length: int | None = None
) -> Estimate:
    """Estimate a run on this machine, and compare it with the memory that is free.

    `length`: tokens of the longest sequence, where that is known.

    Raises PipelineError, saying what to lower, where it cannot fit; warns where it may not.
    """
    half = choose_precision(machine, settings.precision).name != "float32"
    free = free_memory(cuda=machine.cuda)
    sizes = _sizes(settings, base_path)
    return check_fits(settings, sizes, free, half=half, cuda=machine.cuda, length=length)


def check_disk(
    settings: TrainSettings,
    base_path: Path,
    folder: Path,
    *,
    characters: int = 0,
    checkpoints: int = 0,
) -> None:
    """Raise PipelineError if the disk of `folder`, which need not be there yet, has no room for
    what a run writes; see `disk_needed`.
    """
    found = estimate(settings, _sizes(settings, base_path), half=False, cuda=False)
    check_room(
        disk_needed(
            settings, found.trained, found.optimizer, characters=characters, checkpoints=checkpoints
        ),
        folder,
    )


def _sizes(settings: TrainSettings, base_path: Path) -> Sizes:
    config, _ = run_config(settings, base_path)
    return sizes_of(meta_model(config), settings)


def estimate(
    settings: TrainSettings,
    sizes: Sizes,
    *,
    half: bool,
    cuda: bool,
    length: int | None = None,
    micro_batch: int | None = None,
) -> Estimate:
    """What a run needs.

    Args:
        half: computed in 16 bits and not in float32.
        length: tokens of the longest sequence, if they are shorter than `sequence_length`.
        micro_batch: sequences computed together; those of the settings, or one.
    """
    method = METHODS[settings.method]
    everything = settings.trains_everything
    width = 2 if half else FLOAT
    quantized = 0 if everything or method.bits == 16 else sizes.linear
    packed = BYTES_4BIT if method.bits == 4 else BYTES_8BIT
    trained = sizes.weights if everything else _adapter(settings, sizes)
    if everything:
        # Autocast keeps a 16-bit copy of each matrix from the first use to the end of the step.
        weights = FLOAT * sizes.weights + (2 * sizes.linear if half else 0)
    else:
        weights = width * (sizes.weights - quantized) + round(packed * quantized)
    together = micro_batch or settings.micro_batch_size or 1
    checkpointing = settings.gradient_checkpointing
    activations = _activations(
        settings, sizes, half=half, tokens=together * (length or settings.sequence_length),
        length=length or settings.sequence_length,
        checkpointing=cuda if checkpointing is None else checkpointing,
    )  # fmt: skip
    floor = FLOOR_CUDA if cuda else FLOOR_CPU
    if quantized or settings.optimizer == "adamw-8bit":
        floor += FLOOR_BITSANDBYTES
    accumulates = settings.sequences_per_step > together
    return Estimate(
        weights=weights,
        trainable=0 if everything else FLOAT * trained,
        gradients=FLOAT * trained,
        optimizer=_optimizer(settings, sizes, trained),
        activations=activations,
        floor=floor,
        trained=trained,
        shared=0 if accumulates else min(FLOAT * trained, activations),
    )


def check_fits(
    settings: TrainSettings,
    sizes: Sizes,
    free: int,
    *,
    half: bool,
    cuda: bool,
    length: int | None = None,
) -> Estimate:
    """Estimate a run, and compare it with the `free` bytes that it can have in all.

    Warns where it may not fit, as an estimate may be too high by a quarter.

    Raises PipelineError, saying what to lower, where it cannot fit.
    """
    found = estimate(settings, sizes, half=half, cuda=cuda, length=length)
    if found.total <= free:
        return found
    where = "the GPU" if cuda else "this machine"
    hint = _way_out(settings, sizes, free, half=half, cuda=cuda, length=length)
    text = f"{found.describe()[:-1]}, and {where} has {megabytes(free)} free."
    if SURE * found.total > free:
        raise PipelineError(text, hint)
    warn(f"{text} It may not fit. {hint}")
    return found


def _adapter(settings: TrainSettings, sizes: Sizes) -> int:
    trained = settings.rank * (sizes.adapted_in + sizes.adapted_out) + sizes.whole
    if METHODS[settings.method].dora:
        trained += sizes.adapted_out
    return trained + 2 * len(settings.extra_tokens) * sizes.hidden  # embedding and output head


def _optimizer(settings: TrainSettings, sizes: Sizes, trained: int) -> int:
    everything = settings.trains_everything
    largest = sizes.largest if everything else sizes.whole + settings.rank * sizes.intermediate
    if settings.optimizer == "adafactor":
        factored = sizes.factored if everything else 2 * trained // settings.rank
        return FLOAT * (factored + 2 * largest)
    if settings.optimizer == "adamw-8bit":
        embedding = sizes.embedding if everything else 0
        small = round(BYTES_ADAMW_8BIT * (trained - embedding))
        return small + 2 * FLOAT * embedding + 2 * FLOAT * largest
    return 2 * FLOAT * trained


def _activations(
    settings: TrainSettings, sizes: Sizes, *, half: bool, tokens: int, length: int,
    checkpointing: bool,
) -> int:  # fmt: skip
    """What is kept at the end of the forward pass, and the logits in their several forms."""
    # 16 bits: as they come, in float32, their log softmax. float32: a copy for TRL's entropy.
    logits = sizes.vocabulary * (10 if half else 12)
    layers = _layers(settings, sizes, half=half, length=length)
    if checkpointing:
        residual = 2 if half and not settings.trains_everything else FLOAT
        layers = layers // sizes.layers + sizes.layers * residual * sizes.hidden
    scoring = 2 * (2 if half else FLOAT) * sizes.vocabulary * WINDOW_TOKENS
    return max(round(MARGIN * tokens * (layers + logits)), scoring)


def _layers(settings: TrainSettings, sizes: Sizes, *, half: bool, length: int) -> int:
    """Bytes that all layers keep of one token. Coefficients as counted by autograd's hooks."""
    everything = settings.trains_everything
    width = 2 if half else FLOAT
    linear = (16 if everything else 12) * sizes.hidden  # inputs, for the gradients of weights
    attention = 5 * width * sizes.attention  # queries, keys, values for each head, and outputs
    mlp = (4 if sizes.simple_activation else 5) * width * sizes.intermediate
    mask = width * length  # each layer has its own, of documents that share a sequence
    if sizes.attention_dropout:
        mask += 13 * sizes.heads * length  # no fused attention: every weight, several times
    layer = linear + attention + mlp + mask
    found = sizes.layers * layer + (8 if everything else 4) * sizes.norms
    if not everything and METHODS[settings.method].dora:
        found += 5 * width * sizes.adapted_out // 2
    if not everything and settings.dropout:
        found += (1 if half else 5) * sizes.adapted_in
    return found


def _way_out(settings: TrainSettings, sizes: Sizes, free: int, **machine: Any) -> str:
    """The first few changes of the settings with which the run fits, what costs least first."""
    now = estimate(settings, sizes, **machine).total
    changed: list[str] = []
    for option, changes in _changes(settings):
        candidate = replace(settings, **changes)
        length = machine.get("length")
        lengths = {"length": min(length, candidate.sequence_length)} if length else {}
        total = estimate(candidate, sizes, **machine | lengths).total
        if total > 0.98 * now:
            continue
        settings, now = candidate, total
        # What a later change sets anew, such as a length, takes the place of what was said of it.
        again = {"--" + name.replace("_", "-") for name in changes}
        changed = [text for text in changed if text.split()[0] not in again] + [option]
        if now <= free:
            return f"With {' '.join(changed)} it needs about {megabytes(now)}."
    return f"Choose a smaller base model: even with {' '.join(changed)} it needs {megabytes(now)}."


def _changes(settings: TrainSettings) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "--micro-batch-size 1", {"micro_batch_size": 1}
    yield "--gradient-checkpointing", {"gradient_checkpointing": True}
    if settings.method == "full" and settings.from_scratch is None:
        yield "--optimizer adafactor", {"optimizer": "adafactor"}
        yield "--method lora", {"method": "lora", "optimizer": settings.optimizer}
    if settings.from_scratch is None:
        yield "--method qlora", {"method": "qlora"}
    length = settings.sequence_length // 2
    while length >= SHORTEST:
        yield f"--sequence-length {length}", {"sequence_length": length}
        length //= 2
