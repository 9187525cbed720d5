"""How Ollama draws tokens, as a Modelfile says it: the values that make sense, and fit a model."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from pipeline.errors import UsageError
from pipeline.scoring.sampling import Sampling


@dataclass(frozen=True)
class Parameters:
    """How Ollama draws tokens. The defaults are the guide's; None leaves a value to Ollama.

    `repeat_penalty` is written because Ollama (since August 2026) applies none by default, and
    `repeat_last_n` does nothing without.
    """

    temperature: float = Sampling.temperature
    repeat_last_n: int = Sampling.repeat_last_n
    repeat_penalty: float = Sampling.repeat_penalty
    num_predict: int = Sampling.max_tokens
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int | None = None

    def check(self) -> None:
        """Raise UsageError for a value that makes no sense; it names the option."""
        for name, value in self.given().items():
            fits, words = _RANGES[name]
            if not (math.isfinite(value) and abs(value) <= LARGEST and fits(value)):
                option = _OPTIONS.get(name, name.replace("_", "-"))
                raise UsageError(f"--{option} must be {words}, not {value}.")

    def fitted(self, context: int) -> "Parameters":
        """The same for a model that sees `context` tokens at once, prompt and answer together.

        Where an answer grows beyond that, Ollama drops the oldest half of what the model sees, the
        prompt first. So the default length leaves a quarter for the prompt, and one that was asked
        for is the whole context at the most; below 0 (no end) it stays. Nor can the model look
        further back than it sees.
        """
        length, back = self.num_predict, min(self.repeat_last_n, context)
        if length == GUIDE.num_predict:
            length = min(length, max(1, context - context // 4))
        return replace(self, num_predict=min(length, context), repeat_last_n=back)

    def given(self) -> dict[str, float | int]:
        """The values to write, by the names that Ollama has for them."""
        return {name: value for name, value in asdict(self).items() if value is not None}


LARGEST = 2**31 - 1
_OPTIONS = {"seed": "sampling-seed"}  # a --seed is that of training, in `pipeline all`
_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "temperature": (lambda value: value >= 0, "0 or more"),
    "repeat_last_n": (lambda value: value >= -1, "0 (off), -1 (the whole context) or more"),
    "repeat_penalty": (lambda value: value > 0, "more than 0"),
    "num_predict": (
        lambda value: value >= 1 or value in (-1, -2),
        "1 or more, -1 (no end) or -2 (until the context is full, where Ollama knows it)",
    ),
    "top_k": (lambda value: value >= 0, "0 (off) or more"),
    "top_p": (lambda value: 0 < value <= 1, "above 0 and not above 1"),
    "min_p": (lambda value: 0 <= value <= 1, "between 0 and 1"),
    "seed": (lambda value: value >= 0, "0 or more"),
}
GUIDE = Parameters()
