"""Options of `pipeline train`, each defined once: its type, its limits, its help.

These say what comes out: data, method, length, rates. What is saved, pushed and judged of it on the
way is in `train_watch_options`.
"""

from typing import Annotated

from typer import Option

from pipeline.training.methods import METHODS, PRESETS

DATA = "Data"
METHOD = "Method"
LENGTH = "Length"
LEARNING = "Learning"


def _presets() -> str:
    """The learning rates that suit the methods, each with the methods and the reason."""
    names: dict[str, list[str]] = {}
    for name, preset in PRESETS.items():
        why = f"since {preset.reason}"
        names.setdefault(f"{preset.learning_rate:g} for {{}}, {why}", []).append(
            "--from-scratch" if name == "scratch" else name
        )
    return "; ".join(text.format(", ".join(these)) for text, these in names.items())


# --- what is trained on what ---

BaseModelName = Annotated[
    str, Option(help="A Hub id, a folder, a .gguf file, or smollm2-135m (comes with `make setup`).")
]
Revision = Annotated[str | None, Option(help="Branch, tag or commit of a base model from the Hub.")]
Dataset = Annotated[
    str | None,
    Option(
        help="In place of 4_dataset: a folder, a Parquet, JSONL or CSV file, a glob or URL of "
        "such, or a Hub dataset id.",
        rich_help_panel=DATA,
    ),
]
DatasetRevision = Annotated[
    str | None,
    Option(help="Branch, tag or commit of a dataset from the Hub.", rich_help_panel=DATA),
]
DatasetConfig = Annotated[
    str | None,
    Option(
        help="Which part of a dataset from the Hub: a configuration that its card names, a folder, "
        "or a pattern of its files ('en/*.jsonl'). Needed where there are several.",
        rich_help_panel=DATA,
    ),
]
Kind = Annotated[
    str,
    Option(
        help="text, completion (prompts with completions) or chat; auto takes the only kind that "
        "there is, of several that of the last run.",
        rich_help_panel=DATA,
    ),
]
Overlong = Annotated[
    str,
    Option(
        help="Records longer than a sequence: split (nothing is lost), truncate or drop.",
        rich_help_panel=DATA,
    ),
]
Stride = Annotated[
    int, Option(min=0, help="Tokens that a block repeats as context.", rich_help_panel=DATA)
]
Packing = Annotated[
    bool,
    Option(
        help="Let short documents share a sequence, without seeing each other.",
        rich_help_panel=DATA,
    ),
]
ChatTemplate = Annotated[
    str | None,
    Option(help="plain, or a file in Jinja (default: the tokenizer's own).", rich_help_panel=DATA),
]
Ends = Annotated[
    str,
    Option(
        help="Where an end token goes: per-document, or per-chunk (each is a document then); "
        "the same as document and chunk.",
        rich_help_panel=DATA,
    ),
]
ExtraTokens = Annotated[
    str | None,
    Option(
        help="A file of names that are to be one token each: one a line, or a JSON list.",
        rich_help_panel=DATA,
    ),
]
Mix = Annotated[
    list[str] | None,
    Option(
        help="Shares of sources: novels=0.7,letters=0.3; from step 500 on: 500:novels=1,...",
        rich_help_panel=DATA,
    ),
]
MissingSegment = Annotated[
    str,
    Option(
        help="What to do where a segment of a series is listed but has no text: fail or skip.",
        rich_help_panel=DATA,
    ),
]
Show = Annotated[
    int,
    Option(
        min=0,
        help="Print so many sequences with what is trained on marked, and stop. All is tokenized "
        "then, into the cache of the data directory: training begins without that.",
        rich_help_panel=DATA,
    ),
]

# --- how ---

Method = Annotated[
    str,
    Option(
        help="; ".join(f"{name}: {method.about}" for name, method in METHODS.items()) + ".",
        rich_help_panel=METHOD,
    ),
]
Rank = Annotated[
    int, Option(min=1, help="Width of the adapter's matrices.", rich_help_panel=METHOD)
]
Alpha = Annotated[
    int | None,
    Option(
        min=1,
        help="The adapter counts alpha / rank times (default: twice the rank).",
        rich_help_panel=METHOD,
    ),
]
RsLora = Annotated[
    bool, Option(help="Count it alpha / sqrt(rank) times instead.", rich_help_panel=METHOD)
]
Dropout = Annotated[
    float, Option(help="Of the adapter, from 0 to below 1.", rich_help_panel=METHOD)
]
TargetModules = Annotated[
    list[str] | None,
    Option(
        help="Layers that get an adapter, by the last part of their names (default: all linear "
        "layers but the output head).",
        rich_help_panel=METHOD,
    ),
]
RopeScaling = Annotated[
    str | None,
    Option(
        help="See further than the base does: linear:2, dynamic:2, yarn:4, or auto, as much as "
        "--sequence-length needs.",
        rich_help_panel=METHOD,
    ),
]
FromScratch = Annotated[
    str | None,
    Option(
        help="The config.json of a small model to train from nothing, with the base's tokenizer.",
        rich_help_panel=METHOD,
    ),
]
SplitModel = Annotated[
    bool,
    Option(
        "--split-model", help="Spread one model over this machine's GPUs.", rich_help_panel=METHOD
    ),
]
GradientCheckpointing = Annotated[
    bool | None,
    Option(
        help="Compute activations twice to save memory (default: on a GPU).",
        rich_help_panel=METHOD,
    ),
]
Precision = Annotated[
    str,
    Option(
        help="auto (what the device multiplies natively), bf16, fp16 or fp32.",
        rich_help_panel=METHOD,
    ),
]
Engine = Annotated[
    str,
    Option(
        help="auto (unsloth where it is installed and can serve), unsloth or trl.",
        rich_help_panel=METHOD,
    ),
]

# --- for how long ---

MaxSteps = Annotated[
    str | None,
    Option(
        metavar="STEPS|auto",
        help="Optimizer steps; auto: as many as one pass over the data, over all segments of a "
        "series, takes (default).",
        rich_help_panel=LENGTH,
    ),
]
Epochs = Annotated[
    float | None, Option(help="Passes over the data (default: one).", rich_help_panel=LENGTH)
]
Tokens = Annotated[int | None, Option(min=1, help="Tokens to train on.", rich_help_panel=LENGTH)]
SequenceLength = Annotated[
    int, Option(min=8, help="Tokens the model sees at once.", rich_help_panel=LENGTH)
]
BatchSize = Annotated[
    int, Option(min=1, help="Sequences in one optimizer step.", rich_help_panel=LENGTH)
]
BatchTokens = Annotated[
    int | None,
    Option(min=1, help="The same in tokens, in place of --batch-size.", rich_help_panel=LENGTH),
]
MicroBatchSize = Annotated[
    int | None,
    Option(
        min=1,
        help="Sequences computed together (default: as many as fit on a GPU, one on a CPU).",
        rich_help_panel=LENGTH,
    ),
]

# --- how fast ---

LearningRate = Annotated[
    float | None,
    Option(help=f"The highest one (default: {_presets()}).", rich_help_panel=LEARNING),
]
Scheduler = Annotated[
    str,
    Option(
        help="cosine, linear, constant, or wsd (constant with a fall at the end).",
        rich_help_panel=LEARNING,
    ),
]
Warmup = Annotated[
    float, Option(help="Share of the steps (below 1) or steps.", rich_help_panel=LEARNING)
]
Decay = Annotated[
    float, Option(help="Of wsd: the share of the steps that falls.", rich_help_panel=LEARNING)
]
Optimizer = Annotated[
    str,
    Option(
        help="adamw, adamw-8bit (a quarter of its memory) or adafactor (next to none).",
        rich_help_panel=LEARNING,
    ),
]
WeightDecay = Annotated[float, Option(help="Not on norms and biases.", rich_help_panel=LEARNING)]
Beta1 = Annotated[float, Option(help="Memory of the gradients.", rich_help_panel=LEARNING)]
Beta2 = Annotated[float, Option(help="Memory of the squared gradients.", rich_help_panel=LEARNING)]
MaxGradNorm = Annotated[
    float, Option(help="Longer gradients are cut to this.", rich_help_panel=LEARNING)
]
Order = Annotated[
    str,
    Option(
        help="even: as much of each text, as far as it goes; random: from all alike; auto: even "
        "where the run is shorter than an epoch.",
        rich_help_panel=LEARNING,
    ),
]
Seed = Annotated[int, Option(min=0, help="Same seed, same run.", rich_help_panel=LEARNING)]
