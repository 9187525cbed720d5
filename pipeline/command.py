"""From a stage's function to its command: options, settings file, environment, exit codes.

A stage is one typed function. Its parameters are the command line (`--chunk-size`), the
environment (`PIPELINE_CHUNK_CHUNK_SIZE`) and the settings file (`chunk: chunk-size:`) at once, in
that order of precedence; this module adds what all commands share.
"""

import inspect
import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from copy import copy
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from typer.core import TyperGroup

from pipeline import console
from pipeline.endings import errors_as_sentences, terminate_like_interrupt
from pipeline.errors import UsageError
from pipeline.settings import DEFAULT_FILE, load_settings, unknown_variables
from pipeline.workspace import STAGES

DEFAULT_DATA_DIR = Path("training-data")
FILES_PANEL = "Files"
CONTEXT: dict[str, Any] = {
    "help_option_names": ["-h", "--help"],
    "auto_envvar_prefix": "PIPELINE",
    "token_normalize_func": lambda token: token.replace("_", "-"),
}

DataDir = Annotated[
    Path,
    typer.Option(
        help="Where the numbered directories are.",
        envvar="PIPELINE_DATA_DIR",
        is_eager=True,
        rich_help_panel=FILES_PANEL,
    ),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Run although nothing has changed.", rich_help_panel=FILES_PANEL),
]
OverwriteEdited = Annotated[
    bool,
    typer.Option(
        "--overwrite-edited",
        help="Replace files that were edited by hand (kept otherwise).",
        rich_help_panel=FILES_PANEL,
    ),
]
RestoreDeleted = Annotated[
    bool,
    typer.Option(
        "--restore-deleted",
        help="Bring back documents that were deleted by hand.",
        rich_help_panel=FILES_PANEL,
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processes at work (default: one for each core).",
        rich_help_panel=FILES_PANEL,
    ),
]

StageFunction = Callable[..., None]


# Only to look at one stage: `pipeline all` has none of these, since it runs the next one too.
ONLY_ALONE = {"dry_run", "show", "until_done"}
# Asked for once, on the command line: in a file they would undo hand edits at every run, or have
# every run go on from one checkpoint.
NOT_IN_FILES = {
    "data_dir", "force", "overwrite_edited", "restore_deleted", "resume", "allow_changed",
    "push", *ONLY_ALONE,
}  # fmt: skip

# One text with commas on the command line, for which a list is the natural form in a file.
COMMA_SEPARATED = {"ids", "languages", "keep_languages", "copyright", "keep_every"}
_WITH_YES_AND_NO = {"copyright"}  # the others' `no` is Norwegian, or a slip


def stage_options(function: StageFunction) -> set[str]:
    """The option names, with hyphens, that a stage's section of a settings file may hold."""
    names = inspect.signature(function).parameters
    return {name.replace("_", "-") for name in names if name not in NOT_IN_FILES}


def make_app(group: type[TyperGroup] = TyperGroup) -> typer.Typer:
    """A Typer app with this product's ways: `-h`, underscores in options, no traceback art."""
    return typer.Typer(
        cls=group,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings=CONTEXT,
    )


def as_command(
    function: Callable[..., None],
    parameters: Mapping[str, inspect.Parameter],
    known: Mapping[str, Collection[str] | None],
) -> Callable[..., None]:
    """Wrap `function` as a Typer callback with `parameters` and the options that all share."""
    lists = {name: _own_list(each) for name, each in parameters.items() if _is_list(each)}

    def read_settings(context: typer.Context, path: Path | None) -> Path | None:
        if path is None:
            given = context.params.get("data_dir") or os.environ.get("PIPELINE_DATA_DIR")
            default = Path(given or DEFAULT_DATA_DIR).expanduser() / DEFAULT_FILE
            path = default if default.is_file() else None
        with errors_as_sentences(debug=False):
            sections = {} if path is None else load_settings(path, known)
            values = flatten(sections, context.command.name or "", parameters)
            for name, (_, variable) in lists.items():
                by_rule = f"{context.auto_envvar_prefix}_{name}".upper()
                found = _list_in(variable) or _list_in(by_rule)
                if found:
                    values[name] = found
        context.default_map = values
        _warn_of_variables(context, [each for _, each in lists.values() if each])
        return path

    shared = {
        "config": Annotated[
            Path | None,
            typer.Option(
                help="Settings file (default: pipeline.yaml in the data directory, if there).",
                callback=read_settings,
                is_eager=True,
                rich_help_panel=FILES_PANEL,
            ),
        ],
        "quiet": Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")],
        "debug": Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")],
    }

    def command(**values: Any) -> None:
        debug = values.pop("debug")
        console.set_quiet(values.pop("quiet"))
        del values["config"]  # taken in by the callback
        with errors_as_sentences(debug), terminate_like_interrupt():
            function(**values)

    extra = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=annotation,
            default=None if name == "config" else False,
        )
        for name, annotation in shared.items()
    ]
    parameters = {**parameters, **{name: parameter for name, (parameter, _) in lists.items()}}
    keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters.values()]
    extra, keyword = extra[:1], [*keyword, *extra[1:]]  # --config goes first: it may set --data-dir
    command.__name__ = function.__name__
    command.__doc__ = unwrapped(function.__doc__)
    command.__annotations__ = {p.name: p.annotation for p in [*extra, *keyword]}
    for parameter in [*keyword, *extra]:
        # The names follow one rule (see `pipeline --help`); in each option's help they are noise.
        get_args(parameter.annotation)[1].show_envvar = False
    command.__signature__ = inspect.Signature([*extra, *keyword])  # type: ignore[attr-defined]
    return command


def unwrapped(doc: str | None) -> str:
    """A docstring with one line for each paragraph, for a help text that wraps by itself."""
    paragraphs = inspect.cleandoc(doc or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def flatten(
    sections: dict[str, dict[str, Any]], command: str, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """The values of a settings file that concern one command (all sections for `all`)."""
    wanted = [*STAGES] if command == "all" else [command]
    values = dict(sections.get("", {}))
    for stage in wanted:
        section = sections.get(stage, {})
        values |= {merged_name(stage, name, parameters): section[name] for name in section}
    return {
        name: as_option(name, value, parameters[name])
        for name, value in values.items()
        if name in parameters
    }


def as_option(name: str, value: Any, parameter: inspect.Parameter) -> Any:
    """A value from a file as its option takes it: one word will do for a list of one.

    Raises UsageError for a list where one value is wanted, and for YAML's surprises (an unquoted
    `no` is not the word "no").
    """
    kind = str(get_args(parameter.annotation)[0])
    option = f"--{name.replace('_', '-')}"
    if _is_list(parameter):
        return value if isinstance(value, list) else [value]
    if name in COMMA_SEPARATED and value is not None:
        return _with_commas(name, option, value)
    if isinstance(value, list | dict):
        raise UsageError(f"{option} takes one value, but the settings file has {value!r}.")
    if isinstance(value, bool) and "bool" not in kind:
        raise UsageError(
            f"{option} takes no yes or no, but the settings file has {value!r}.",
            "Put the word into quotes.",
        )
    return value


def _with_commas(name: str, option: str, value: Any) -> str:
    """`[84, 345]` as `84,345`, and `[false, null]` as `false,null` where these are values."""
    items = value if isinstance(value, list) else [value]
    words = (str, int, float, bool, type(None)) if name in _WITH_YES_AND_NO else (str, int, float)
    if not items or not all(type(item) in words for item in items):
        raise UsageError(
            f"{option} takes one or more words, but the settings file has {value!r}.",
            'Put each word into quotes: ["en", "no"].',
        )
    return ",".join(item if isinstance(item, str) else json.dumps(item) for item in items)


def _warn_of_variables(context: typer.Context, more: Collection[str]) -> None:
    """Warn of variables that look like options of this command, or of a stage of `all`, and are
    none. `more` are variables that its options do not tell of."""
    if not any(name.startswith("PIPELINE_") for name in os.environ):
        return
    command = context.command
    stages = (
        [*STAGES] if command.name == "all" else [name for name in STAGES if name == command.name]
    )
    known = {*more, *(each.envvar for each in command.params if isinstance(each.envvar, str))}
    known |= {f"{context.auto_envvar_prefix}_{option.name}".upper() for option in command.params}
    # What a stage has and `all` has not is no slip: it is there for the stage alone.
    alone = {*NOT_IN_FILES, "config", "quiet", "debug"}
    known |= {f"PIPELINE_{stage}_{name}".upper() for stage in stages for name in alone}
    for sentence in unknown_variables(stages, known, os.environ):
        console.warn(sentence)


def _is_list(parameter: inspect.Parameter) -> bool:
    return "list" in str(get_args(parameter.annotation)[0])


def _own_list(parameter: inspect.Parameter) -> tuple[inspect.Parameter, str | None]:
    """A list option that does not look into the environment, and the variable that it had named.

    Click splits variables at every space, and names of folders have some: see `_list_in`.
    """
    kind, option = get_args(parameter.annotation)
    clone = copy(option)
    clone.envvar, clone.allow_from_autoenv = None, False
    return parameter.replace(annotation=Annotated[kind, clone]), option.envvar


def _list_in(variable: str | None) -> list[str]:
    """The items in an environment variable: words between spaces, or a JSON list of texts.

    Raises UsageError for what begins as such a list and is none.
    """
    value = os.environ.get(variable, "") if variable else ""
    if not value.lstrip().startswith("["):
        return value.split()
    try:
        items = json.loads(value)
    except (ValueError, RecursionError):
        items = None
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise UsageError(
            f"{variable} begins with a bracket, but is no JSON list of texts.",
            'It should look like ["my novels", "[ab]*.txt"]',
        )
    return items


def merge_parameters(functions: Collection[StageFunction]) -> dict[str, inspect.Parameter]:
    """The parameters of several stages as those of one command.

    Each keeps its own environment variable and is listed in its stage's panel; what several
    stages share (--data-dir, --force) is one option. A name that means something else in each of
    two stages is `--acquire-revision` and `--train-revision` here.
    """
    signatures = {f.__name__: inspect.signature(f).parameters for f in functions}
    uses = Counter(name for parameters in signatures.values() for name in parameters)
    merged: dict[str, inspect.Parameter] = {}
    for stage, parameters in signatures.items():
        for name, parameter in parameters.items():
            if name in ONLY_ALONE:
                continue
            own = _in_panel(parameter, stage)
            if uses[name] > 1 and own is not parameter:
                name, own = f"{stage}_{name}", _of_stage(own, stage)
            merged.setdefault(name, own.replace(name=name))
    return merged


def _of_stage(parameter: inspect.Parameter, stage: str) -> inspect.Parameter:
    """A parameter whose spelled-out options (`--private/--public`) begin with its stage."""
    kind, option = get_args(parameter.annotation)

    def own(declared: Any) -> Any:
        if not isinstance(declared, str):
            return declared
        return "/".join(each.replace("--", f"--{stage}-", 1) for each in declared.split("/"))

    # The first of them is where a default would stand without Annotated.
    option.default = own(option.default)
    option.param_decls = tuple(map(own, option.param_decls or ()))
    return parameter.replace(annotation=Annotated[kind, option])


def merged_name(stage: str, name: str, merged: Collection[str]) -> str:
    """What an option of a stage is called among `merged`, the options of `pipeline all`."""
    own = f"{stage}_{name}"
    return own if own in merged else name


def values_of(function: StageFunction, values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a stage among the values of `pipeline all`."""
    names = inspect.signature(function).parameters
    wanted = [name for name in names if name not in ONLY_ALONE]
    return {name: values[merged_name(function.__name__, name, values)] for name in wanted}


def _in_panel(parameter: inspect.Parameter, stage: str) -> inspect.Parameter:
    kind, option = get_args(parameter.annotation)
    if option.rich_help_panel == FILES_PANEL:
        return parameter
    clone = copy(option)
    clone.envvar = f"PIPELINE_{stage}_{parameter.name}".upper()
    clone.rich_help_panel = f"Options of {stage}"
    return parameter.replace(annotation=Annotated[kind, clone])


def run_script(function: StageFunction) -> None:
    """Run a stage as a program of its own: `python pipeline/step3_chunk.py ...`."""
    name = function.__name__
    known: dict[str, Collection[str] | None] = dict.fromkeys(STAGES)
    known[name] = stage_options(function)
    app = make_app()
    prefix = {"auto_envvar_prefix": f"PIPELINE_{name.upper()}"}
    app.command(name, context_settings=CONTEXT | prefix)(
        as_command(function, dict(inspect.signature(function).parameters), known)
    )
    app()
