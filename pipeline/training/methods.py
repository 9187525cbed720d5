"""The ways to train a model, and the settings that suit each."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Method:
    """What is trained, and how the base's weights are kept meanwhile."""

    about: str
    bits: Literal[4, 8, 16]  # of a frozen weight
    adapter: bool = True
    dora: bool = False


METHODS = {
    "lora": Method("an adapter on a base in 16 bits (Hu et al. 2021)", 16),
    "qlora": Method("the same on a base in 4 bits, NF4 (Dettmers et al. 2023)", 4),
    "qlora8": Method("the same on a base in 8 bits (Dettmers et al. 2022)", 8),
    "dora": Method("LoRA with a magnitude for each row (Liu et al. 2024)", 16, dora=True),
    "full": Method("every weight of the model", 16, adapter=False),
}


@dataclass(frozen=True)
class Preset:
    """Values that suit a method where none is given, and the reason."""

    learning_rate: float
    reason: str


_ADAPTER = "an adapter starts at nothing and is small: it takes large steps"
PRESETS = {
    "lora": Preset(4e-4, _ADAPTER),
    "qlora": Preset(4e-4, _ADAPTER),
    "qlora8": Preset(4e-4, _ADAPTER),
    "dora": Preset(4e-4, _ADAPTER),
    "full": Preset(1e-5, "large steps would undo what the base has learned"),
    "scratch": Preset(5e-4, "a small model starts at random numbers and has far to go"),
}
