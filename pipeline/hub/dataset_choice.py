"""Which files of a dataset repository are one dataset: of several, one has to be chosen.

    choose_files("ada/tales", names, card, table_format)             the only one, or the default
    choose_files("ada/tales", names, card, table_format, "en")       a configuration, or a folder

Other people's repositories hold the same rows as JSON and as Parquet, ten languages side by side,
or five sizes of one text. Whoever takes them all trains on something that nobody meant.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pipeline.console import few
from pipeline.errors import PipelineError, UsageError
from pipeline.storage.urls import glob_filter, has_glob, is_visible

FormatOf = Callable[[str], str | None]  # of a file by its name; None if it is no table

OPTION = "--dataset-config"
OWN = ("data", "completion", "chat")  # folders of tables that this pipeline makes
OWN_CONFIGS = {"chunks", "completion", "chat", "books"}
HELD_OUT = {"validation", "valid", "val", "dev", "eval", "evaluation", "test", "testing"}
_SPLITS = HELD_OUT | {"train", "training"}
_LISTED = 20  # names in a message
_LONGEST_CARD = 2_000_000  # characters of it that are looked at


@dataclass(frozen=True)
class DataFile:
    """A file of a dataset. `held_out` is what the card says of its split; None if only its name
    tells."""

    name: str
    held_out: bool | None = None


@dataclass(frozen=True)
class Choice:
    """The files of one dataset, and what is beside it: `config` was taken, `others` were not."""

    files: list[DataFile]
    config: str | None = None
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Configuration:
    """A configuration of a card: splits (None if not named) with the patterns of their files."""

    patterns: tuple[tuple[str | None, str], ...]
    is_default: bool = False


def choose_files(
    repo_id: str, names: Iterable[str], card: str, format_of: FormatOf, wanted: str | None = None
) -> Choice:
    """The files of one dataset among `names`, all those of a repository.

    Args:
        card: the text of its README.md, whose front matter may name configurations.
        wanted: a configuration, a folder, or a pattern of files; None for the only one there is, or
            the one that the card calls its default.

    Raises UsageError, naming the choice, if there are several and none is `wanted` or it is none of
    them; PipelineError if there are no tables at all.
    """
    names = [name for name in sorted(names) if is_visible(name)]
    tables = [name for name in names if format_of(name)]
    if not tables:
        raise PipelineError(
            f"The dataset {repo_id} holds no Parquet, JSON or CSV files{_instead(names)}.",
            "Choose another dataset, or give files of your own: --dataset FOLDER.",
        )
    configs = configurations(card)
    if wanted is not None:
        return _wanted(repo_id, tables, configs, format_of, wanted)
    if configs and not (set(configs) <= OWN_CONFIGS and _own(tables)):
        return _by_card(repo_id, tables, configs)
    if own := _own(tables):
        rest = [name for name in tables if name not in own and _group(name) not in ("", "books")]
        tables = sorted([*own, *rest])
        if not rest:
            return Choice([DataFile(name) for name in tables])
    groups = list(dict.fromkeys(map(_group, tables)))
    if len(groups) > 1:
        raise _several(repo_id, "folders", groups, tables)
    _check_formats(repo_id, tables, format_of)
    return Choice([DataFile(name) for name in tables])


def configurations(card: str) -> dict[str, Configuration]:
    """The configurations with files that the front matter of a card names; none if it has none, or
    cannot be read."""
    import yaml

    parts = re.match(r"\A---\s*\n(.*?)\n---\s*$", card[:_LONGEST_CARD], re.DOTALL | re.MULTILINE)
    try:
        data = yaml.safe_load(parts[1]) if parts else None
    except (yaml.YAMLError, ValueError, RecursionError):  # anybody's: the folders still tell
        return {}
    listed = data.get("configs") if isinstance(data, dict) else None
    found = {}
    for each in listed if isinstance(listed, list) else ():
        if isinstance(each, dict) and isinstance(name := each.get("config_name"), str):
            patterns = tuple(_patterns(each))
            if patterns:
                is_default = each.get("default") is True or name == "default"
                found[name] = Configuration(patterns, is_default)
    return found


def _patterns(config: dict[str, Any]) -> Iterator[tuple[str | None, str]]:
    files, folder = config.get("data_files"), config.get("data_dir")
    base = f"{folder.strip('/')}/" if isinstance(folder, str) and folder.strip("./") else ""
    if files is None and base:
        yield None, f"{base}**"
    if isinstance(files, dict):
        files = [{"split": split, "path": path} for split, path in files.items()]
    for each in files if isinstance(files, list) else [files]:
        split = each.get("split") if isinstance(each, dict) else None
        paths = each.get("path") if isinstance(each, dict) else each
        for path in paths if isinstance(paths, list) else [paths]:
            if isinstance(path, str) and path:
                yield split if isinstance(split, str) else None, base + path.removeprefix("./")


def _own(tables: Sequence[str]) -> set[str]:
    """The tables of a dataset as this pipeline makes them."""
    return {
        name for name in tables
        if name.endswith(".parquet") and str(PurePosixPath(name).parent) in OWN
    }  # fmt: skip


def _group(name: str) -> str:
    """The folder that makes a file part of one dataset and not of another: the first that is no
    `data` and no split. "" for the top level."""
    for folder in PurePosixPath(name).parts[:-1]:
        if folder != "data" and folder.lower() not in _SPLITS:
            return folder
    return ""


def _by_card(repo_id: str, tables: list[str], configs: dict[str, Configuration]) -> Choice:
    chosen = next((name for name, each in configs.items() if each.is_default), None)
    if len(configs) == 1:
        (chosen,) = configs
    if chosen is None:
        raise _several(repo_id, "configurations", list(configs), tables)
    others = tuple(name for name in configs if name != chosen)
    return Choice(_files_of(repo_id, chosen, configs[chosen], tables), chosen, others)


def _wanted(
    repo_id: str,
    tables: list[str],
    configs: dict[str, Configuration],
    format_of: FormatOf,
    wanted: str,
) -> Choice:
    if wanted in configs:
        return Choice(_files_of(repo_id, wanted, configs[wanted], tables), wanted)
    folder = wanted.strip("/")
    below = [name for name in tables if name.startswith((f"{folder}/", f"data/{folder}/"))]
    if below:
        _check_formats(repo_id, below, format_of)
        return Choice([DataFile(name) for name in below], wanted)
    matching = _matching(wanted, tables) if has_glob(wanted) or wanted in tables else []
    if matching:
        return Choice([DataFile(name) for name in matching], wanted)
    there = list(configs) or [group for group in dict.fromkeys(map(_group, tables)) if group]
    what, names = ("choose from:", there) if there else ("its files are", tables)
    raise UsageError(
        f"The dataset {repo_id} has no {OPTION} {wanted!r}; {what} {few(names, _LISTED)}."
    )


def _files_of(
    repo_id: str, name: str, config: Configuration, tables: Sequence[str]
) -> list[DataFile]:
    """The files of a configuration; one that is in two splits is held out if it is in one."""
    found: dict[str, bool | None] = {}
    for split, pattern in config.patterns:
        for table in _matching(pattern, tables):
            held_out = None if split is None else is_held_out(split)
            found[table] = found.get(table) or held_out
    if not found:
        raise PipelineError(
            f"The configuration {name} of the dataset {repo_id} names no Parquet, JSON or CSV file "
            "that is there.",
            f"Name a folder of it, or its files by a pattern: {OPTION} '**/*.parquet'.",
        )
    return [DataFile(table, found[table]) for table in tables if table in found]


def is_held_out(split: str) -> bool:
    """Whether a split of this name is there to be scored on, such as `test` or `validation_sft`."""
    return bool(set(re.split(r"[^a-z]+", split.lower())) & HELD_OUT)


def _matching(pattern: str, tables: Iterable[str]) -> list[str]:
    """The tables that a pattern stands for, or that are in a folder of that name."""
    try:
        regex = glob_filter(pattern)
    except UsageError:  # a card's: what makes no sense names nothing
        return []
    folder = f"{pattern.rstrip('/')}/"
    return [name for name in tables if regex.fullmatch(name) or name.startswith(folder)]


def _check_formats(repo_id: str, tables: Sequence[str], format_of: FormatOf) -> None:
    """Raise UsageError for files of several kinds: as a rule the same rows in other words."""
    kinds = dict.fromkeys(ending(name, format_of) for name in tables)
    if len(kinds) > 1:
        choice = " or ".join(f"{OPTION} '**/*{kind}'" for kind in kinds)
        raise UsageError(
            f"The dataset {repo_id} holds files of several kinds, which may be the same rows: "
            f"{few(tables, _LISTED)}.",
            f"Choose: {choice}; another pattern does, too.",
        )


def ending(name: str, format_of: FormatOf) -> str:
    """What tells the kind of a file: its suffix, with that of its compression."""
    suffixes = [suffix.lower() for suffix in PurePosixPath(name).suffixes]
    last = "".join(suffixes[-1:])
    return last if format_of(f"x{last}") else "".join(suffixes[-2:])


def _several(repo_id: str, what: str, there: Sequence[str], tables: Sequence[str]) -> UsageError:
    named = [name or "its top level" for name in there]
    example = next(filter(None, there))
    return UsageError(
        f"The dataset {repo_id} has several {what}, and it is not said which to take: "
        f"{few(named, _LISTED)}.",
        f"Name one, such as {OPTION} {example}, or files by a pattern, such as {OPTION} "
        f"'{PurePosixPath(tables[0]).parent / '*'}'.",
    )


def _instead(names: Sequence[str]) -> str:
    suffixes = dict.fromkeys(PurePosixPath(name).suffix for name in names if "." in name)
    held = [suffix for suffix in suffixes if suffix not in ("", ".md", ".gitattributes")]
    return f", only {few(held, _LISTED)}" if held else ""
