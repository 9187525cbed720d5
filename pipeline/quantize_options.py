"""The options of `pipeline quantize`, each defined once: its type, its limits, its help."""

from typing import Annotated

from typer import Option

from pipeline.export.quantization_help import type_help

SOURCE = "What is shipped"
PROOF = "Proof"

# --- what ---

Quantization = Annotated[list[str] | None, Option(help=type_help())]
ModelName = Annotated[
    str | None, Option(help="Name of the model and its files (default: the base's, -tuned).")
]
Author = Annotated[str | None, Option(help="Who made the model, for the header of the files.")]
MaxMemory = Annotated[
    float, Option(help="GiB of memory that merging may take, besides the libraries.")
]
MergeBase = Annotated[
    str | None,
    Option(
        help="The 16-bit original of a base that is stored in 4 bits, a folder or a Hub id: the"
        " adapter is merged into that one. Default: into the 4-bit weights, unpacked, which is"
        " exactly the model that was trained."
    ),
]
AsAdapter = Annotated[
    bool,
    Option("--as-adapter", help="The adapter alone as a GGUF, for those who have its base model."),
]

# --- of what ---

Adapter = Annotated[
    str | None,
    Option(
        help="Adapter to ship: a folder, a Hub id, or the URL of a folder (default: what stage 6"
        " made).",
        rich_help_panel=SOURCE,
    ),
]
AdapterRevision = Annotated[
    str | None,
    Option(help="Branch, tag or commit of an adapter from the Hub.", rich_help_panel=SOURCE),
]
AdapterBase = Annotated[
    str | None,
    Option(
        help="Base model of the adapter, in place of the one that it names.",
        rich_help_panel=SOURCE,
    ),
]
Checkpoint = Annotated[
    str | None,
    Option(
        help="Ship a checkpoint of stage 6 instead: latest, best, a step, or its folder.",
        rich_help_panel=SOURCE,
    ),
]

# --- how it is proven ---

ProofMode = Annotated[
    str | None,
    Option(
        help="full: ask adapter, merged model and GGUFs on all held-out text. quick: on a"
        " thousand tokens of it. none: the model card will say so. Default: full, or quick where"
        " full would take over five minutes.",
        rich_help_panel=PROOF,
    ),
]
MaxBitsLost = Annotated[
    float | None,
    Option(
        help="Bits per byte by which a GGUF may differ from the merged model. Default: 0.001 of"
        " 16 bits and more, 0.005 of q8_0, of others what only a broken file loses.",
        rich_help_panel=PROOF,
    ),
]
MaxMergeDivergence = Annotated[
    float | None,
    Option(
        help="Nats per token by which the merged model may differ from base and adapter."
        " Default: 0.002, or 0.02 where memory allows only to compute in 16 bits.",
        rich_help_panel=PROOF,
    ),
]
MaxTokenDifferences = Annotated[
    int,
    Option(
        help="Texts of the proof that llama.cpp may split into other tokens.",
        rich_help_panel=PROOF,
    ),
]
