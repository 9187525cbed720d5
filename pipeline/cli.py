"""The `pipeline` command: every stage by its name, the whole chain, and a look at where it stands.

pipeline all --source my-books        everything that is not up to date, in order
pipeline chunk --chunk-size 4000      one stage
pipeline status                       what is done, what is stale, what to run next
pipeline inspect --search "the vault" what is in the chunks
pipeline convert IN.parquet OUT.csv   texts from one format into another
pipeline generate "It was a dark"     the finished model goes on

A command's module is loaded when that command is run: a list of commands needs none of them.
"""

import gc
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from pipeline.command import as_command, make_app, merge_parameters, stage_options, unwrapped


@dataclass(frozen=True)
class Entry:
    """A command: what it does in a line, and the function that does it, as `module:name`."""

    summary: str
    place: str

    def load(self) -> Callable[..., None]:
        """Import the function."""
        module, _, name = self.place.partition(":")
        function: Callable[..., None] = getattr(import_module(f"pipeline.{module}"), name)
        return function


STAGES = {
    "acquire": Entry("1: get texts, byte for byte, into 1_raw.", "step1_acquire:acquire"),
    "preprocess": Entry("2: clean them into 2_preprocessed.", "step2_preprocess:preprocess"),
    "chunk": Entry("3: cut them into the Parquet files of 3_chunks.", "step3_chunk:chunk"),
    "upload": Entry(
        "4: make the dataset repository 4_dataset; push it if asked to.", "step4_upload:upload"
    ),
    "train": Entry("6: train an adapter on it, and score it, in 6_adapter.", "step6_train:train"),
    "quantize": Entry("7: merge and quantize it to a GGUF in 7_gguf.", "step7_quantize:quantize"),
    "modelfile": Entry(
        "8: put it into 8_ollama with its Modelfile, and ask it.", "step8_modelfile:modelfile"
    ),
    "publish": Entry(
        "9: make the model repository 9_model; push it if asked to.", "step9_publish:publish"
    ),
}
OTHERS = {
    "all": Entry("Run every stage that is not up to date, in order.", "chain:all_stages"),
    "status": Entry("Show what is done, what is stale, and what to run next.", "tools:status"),
    "inspect": Entry(
        "Show what is in the chunks: sizes, tokens, steps, a phrase, the ledger.",
        "tools:inspect_data",
    ),
    "convert": Entry("Write texts or records in another format.", "tools:convert_data"),
    "evaluate": Entry(
        "Score models and adapters on the same held-out text.", "evaluate:evaluate_models"
    ),
    "generate": Entry(
        "Let a model write: adapter, model or GGUF, alone or beside its base.", "generate:generate"
    ),
    "merge": Entry(
        "Write the whole model, base and adapter in one, for transformers or vLLM.",
        "merge_command:merge",
    ),
    "serve": Entry("Serve the finished model to other programs.", "serve:serve"),
    "sync": Entry("Copy checkpoints elsewhere and back, by hand.", "sync:sync"),
    "series": Entry("Series of segment lists, for corpora in object storage.", "tools:build"),
}
COMMANDS = {**STAGES, **OTHERS}


class KnownOptions(Mapping[str, set[str]]):
    """The options of each stage, against which a settings file is checked."""

    def __getitem__(self, stage: str) -> set[str]:
        return stage_options(STAGES[stage].load())

    def __iter__(self) -> Iterator[str]:
        return iter(STAGES)

    def __len__(self) -> int:
        return len(STAGES)


class LazyGroup(TyperGroup):
    """Lists commands by their summaries, and loads the one that is run."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, entry in COMMANDS.items():
            self.add_command(TyperCommand(name, help=entry.summary))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that `args` begin with, loaded, and the other arguments."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and load(name or ""), rest


def load(name: str) -> Any:
    """The command of this name, with its options."""
    function = COMMANDS[name].load()
    gc.enable()  # see `main`
    parameters = dict(inspect.signature(function).parameters)
    if name == "all":
        parameters = merge_parameters([entry.load() for entry in STAGES.values()])
    own_name = function.__name__ if name == "series" else name
    app = make_app()
    app.command(own_name)(as_command(function, parameters, KnownOptions()))
    if name == "series":
        app.callback(help=COMMANDS[name].summary)(lambda: None)
    command = typer.main.get_command(app)
    # Its variables begin with the group's prefix and its own name: PIPELINE_CHUNK_...
    command.context_settings = {**command.context_settings, "auto_envvar_prefix": None}
    return command


def make_pipeline() -> typer.Typer:
    """The whole command-line interface."""
    app = make_app(LazyGroup)
    app.callback(help=unwrapped(root.__doc__))(root)
    return app


def root() -> None:
    """From a shelf of books to a text-completion language model that runs on your machine.

    Eight stages pass files through numbered directories (training-data/1_raw, 2_preprocessed,
    ...). Run them one by one, or `pipeline all`; stop anywhere, look, change files by hand, go on.

    Every option can also be set in the environment (--max-steps of train is
    PIPELINE_TRAIN_MAX_STEPS) or in a settings file (--config, or pipeline.yaml in the data
    directory); the command line goes first, then the environment, then the file. A variable of an
    option that may be repeated holds words, or a JSON list: PIPELINE_ACQUIRE_SOURCE='["my books"]'.
    """


def main() -> None:
    """Entry point of the `pipeline` command."""
    # To look through all that is imported for garbage, again and again, and once more at the end,
    # takes a fifth of the time of a command that finds nothing to do.
    gc.disable()
    try:
        make_pipeline()()
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
