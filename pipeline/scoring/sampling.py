"""How a model is let write: the sampling settings, what came of it, and where it has to stop.

The same settings mean the same for every form of a model. The chain is that of llama.cpp and
Ollama: repeat penalty, top-k, top-p, min-p, temperature, then a draw by seed.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pipeline.errors import UsageError

SEEDS = 2**32 - 1  # llama.cpp takes these; the next one means "another each time" to it


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn: the guide's values, and Ollama's where the guide sets none.

    A temperature of 0 always takes the likeliest token. `top_k` 0, `top_p` 1, `min_p` 0 and
    `repeat_penalty` 1 switch these off; `repeat_last_n` 0 is none, -1 all tokens so far.
    """

    temperature: float = 0.6
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    repeat_penalty: float = 1.1
    repeat_last_n: int = 256
    max_tokens: int = 2048
    seed: int = 0
    stop: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise UsageError, naming the option, for the first setting that makes no sense."""
        for name, least, most in (
            ("temperature", 0, math.inf),
            ("top_k", 0, math.inf),
            ("top_p", 0, 1),
            ("min_p", 0, 1),
            ("repeat_last_n", -1, math.inf),
            ("max_tokens", 1, math.inf),
            ("seed", 0, SEEDS - 1),
        ):
            value = getattr(self, name)
            option = f"--{name.replace('_', '-')}"
            if not least <= value <= most or value == math.inf:
                span = f"from {least} to {most}" if most < math.inf else f"{least} or more"
                raise UsageError(f"{option} must be {span}, not {value}.")
        if not 0 < self.repeat_penalty < math.inf:
            raise UsageError(f"--repeat-penalty must be above 0, not {self.repeat_penalty}.")
        if "" in self.stop:
            raise UsageError("An empty --stop would end every text before it begins.")

    def numbered(self, sample: int) -> "Sampling":
        """The settings of sample number `sample`, from 0: each has the next seed."""
        return replace(self, seed=(self.seed + sample) % SEEDS)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"stop": list(self.stop)}


@dataclass(frozen=True)
class Answer:
    """What a model wrote, and how fast. `tokens` counts what was drawn, the end token too.

    `seconds` are those after the first token, which comes of reading the prompt and belongs to
    `prompt_seconds`. `finish` is "stop" (an end token or stop text) or "length".
    """

    text: str
    tokens: int
    seconds: float
    finish: str
    prompt_tokens: int
    prompt_seconds: float

    @property
    def tokens_per_second(self) -> float:
        """How fast it wrote; 0 where nothing followed the first token."""
        return (self.tokens - 1) / self.seconds if self.tokens > 1 and self.seconds > 0 else 0.0

    @property
    def prompt_tokens_per_second(self) -> float:
        """How fast it read."""
        return self.prompt_tokens / self.prompt_seconds if self.prompt_seconds > 0 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {
            "tokens_per_second": round(self.tokens_per_second, 1),
            "prompt_tokens_per_second": round(self.prompt_tokens_per_second, 1),
        }


@dataclass
class StopFinder:
    """Passes text on up to the first of some stop texts, which is left out.

    What may be the beginning of a stop text is held back until it is known what it is.
    """

    stops: Sequence[str]
    stopped: bool = False
    _held: str = field(default="", repr=False)

    def add(self, text: str) -> str:
        """Take in more text; returns what can be shown of it now."""
        if self.stopped:
            return ""
        held = self._held + text
        places = [at for at in map(held.find, self.stops) if at >= 0]
        if places:
            self.stopped, self._held = True, ""
            return held[: min(places)]
        keep = max((_overlap(held, stop) for stop in self.stops), default=0)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def end(self) -> str:
        """What was held back, now that no more text comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """The length of the longest proper beginning of `stop` that `text` ends with."""
    return next((n for n in range(len(stop) - 1, 0, -1) if text.endswith(stop[:n])), 0)
