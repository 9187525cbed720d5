"""The options of `pipeline generate` and `pipeline serve` that say how tokens are drawn."""

from typing import Annotated

from typer import Option

SAMPLING = "Sampling"

Temperature = Annotated[
    float,
    Option(help="0 always takes the likeliest word; 1 dares more.", rich_help_panel=SAMPLING),
]
TopK = Annotated[
    int, Option(help="Choose among so many likeliest; 0: all.", rich_help_panel=SAMPLING)
]
TopP = Annotated[
    float,
    Option(
        help="Among the likeliest that have this share together; 1: all.", rich_help_panel=SAMPLING
    ),
]
MinP = Annotated[
    float,
    Option(
        help="Among those that are this likely beside the likeliest; 0: all.",
        rich_help_panel=SAMPLING,
    ),
]
RepeatPenalty = Annotated[
    float,
    Option(
        help="How much less likely becomes what was said; 1: not at all.", rich_help_panel=SAMPLING
    ),
]
RepeatLastN = Annotated[
    int,
    Option(
        help="How many tokens it looks back for that; 0: none, -1: all.", rich_help_panel=SAMPLING
    ),
]
MaxTokens = Annotated[int, Option(help="Tokens to write at the most.", rich_help_panel=SAMPLING)]
Seed = Annotated[int, Option(help="Same seed, same text.", rich_help_panel=SAMPLING)]
Stop = Annotated[
    list[str] | None,
    Option(help="End where it would write this; repeatable.", rich_help_panel=SAMPLING),
]
