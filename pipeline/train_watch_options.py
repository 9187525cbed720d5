"""Options of `pipeline train` for what is saved, pushed, judged and seen of a run on the way.

See `train_options`.
"""

from typing import Annotated

from typer import Option

CHECKPOINTS = "Checkpoints"
PUSHING = "Pushing"
SCORING = "Scoring"
REPORTS = "Reports"

# --- what is saved of it on the way ---

SaveSteps = Annotated[
    int | None, Option(min=1, help="Save every so many steps.", rich_help_panel=CHECKPOINTS)
]
SaveMinutes = Annotated[
    float,
    Option(
        min=0,
        help="Save when the last save is so many minutes old, and 50 times as old as it took: it "
        "costs 2 % of the time at most; 0: never for that.",
        rich_help_panel=CHECKPOINTS,
    ),
]
KeepLast = Annotated[
    int,
    Option(
        min=1,
        help="The newest checkpoints that stay; older ones are deleted.",
        rich_help_panel=CHECKPOINTS,
    ),
]
KeepEvery = Annotated[
    str | None,
    Option(
        help="Keep every so many steps for good: 500, or 100:until=1000,500 (every 100th up to "
        "step 1000, every 500th after it).",
        rich_help_panel=CHECKPOINTS,
    ),
]
Resume = Annotated[
    str,
    Option(
        help="auto goes on from the newest whole checkpoint of this very run, never starts anew; "
        "or the path of a checkpoint.",
        rich_help_panel=CHECKPOINTS,
    ),
]
AllowChanged = Annotated[
    bool,
    Option(
        "--allow-changed",
        help="Go on although the run is to be longer, to be scored at other times, or to compute "
        "less at a time, or the series has grown at its end.",
        rich_help_panel=CHECKPOINTS,
    ),
]
SyncTo = Annotated[
    str | None,
    Option(
        help="Copy checkpoints in the background to s3://, gs://, hf://, file:// or any other "
        "place that fsspec knows, and go on from the newest there is.",
        rich_help_panel=CHECKPOINTS,
    ),
]
StepsPerRound = Annotated[
    int | None,
    Option(
        min=1,
        help="Save and stop after so many steps, with exit code 33; the same command goes on.",
        rich_help_panel=CHECKPOINTS,
    ),
]
SegmentsPerRound = Annotated[
    int | None,
    Option(
        min=1,
        help="Of a series: save and stop so at the end of every so many segments.",
        rich_help_panel=CHECKPOINTS,
    ),
]
UntilDone = Annotated[
    bool,
    Option(
        "--until-done",
        help="Run again and again until training is done: at once after a round, after a pause "
        "when it failed.",
        rich_help_panel=CHECKPOINTS,
    ),
]

# --- what others get of it ---

PushTo = Annotated[
    str | None,
    Option(
        help="Push the best weights so far, and the result, to this model of the Hugging Face Hub "
        "in the background: user/name, made private if it is not there.",
        rich_help_panel=PUSHING,
    ),
]
PushPublic = Annotated[
    bool,
    Option(
        "--push-public",
        help="Push there although it is public: others see what nobody has checked.",
        rich_help_panel=PUSHING,
    ),
]

# --- how it is judged and seen ---

EvalTokens = Annotated[
    int, Option(min=1, help="Held-out tokens to score.", rich_help_panel=SCORING)
]
EvalEvery = Annotated[
    int | None,
    Option(
        min=0,
        help="Steps between scores (default: a quarter of the run; 0: only before and after).",
        rich_help_panel=SCORING,
    ),
]
KeepBest = Annotated[
    bool, Option(help="Keep the weights that scored best.", rich_help_panel=SCORING)
]
SamplePrompt = Annotated[
    list[str] | None,
    Option(
        help="What the model is to go on from (repeatable; default: beginnings of novels, of a "
        "model of records what held-out ones ask).",
        rich_help_panel=SCORING,
    ),
]
SampleTokens = Annotated[int, Option(min=1, help="How far it goes on.", rich_help_panel=SCORING)]
ReportTo = Annotated[
    list[str] | None,
    Option(
        help="tensorboard, wandb or trackio as well, where it is installed (repeatable).",
        rich_help_panel=REPORTS,
    ),
]
PricePerHour = Annotated[
    float | None, Option(help="Of this machine, to say what it cost.", rich_help_panel=REPORTS)
]
ProfileSteps = Annotated[
    int,
    Option(min=0, help="Steps to record with torch's profiler.", rich_help_panel=REPORTS),
]
