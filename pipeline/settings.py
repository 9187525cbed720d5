"""Settings files: one YAML section per stage, keys spelled as the options are.

    data-dir: training-data/horror
    acquire:
      topic: horror
      num-records: 40
    train:
      max-steps: 500

Command line beats environment beats file beats default. A key that no stage knows is refused,
with its line and the nearest key that exists.

A file may begin with `include: other.yaml`, or a list of such: what comes later wins, key by key,
and the file itself wins over what it includes.
"""

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UsageError

if TYPE_CHECKING:
    import yaml

DEFAULT_FILE = "pipeline.yaml"  # looked for in the data directory
SHARED_KEYS = ("data-dir",)
INCLUDE = "include"
DEEPEST = 10  # files that include one another

Section = dict[str, Any]


def load_settings(path: Path, known: Mapping[str, Collection[str] | None]) -> dict[str, Section]:
    """Read a settings file.

    `known` gives the option names (with hyphens) of every stage; None for a stage whose options
    are not to be checked. Returns for each section its values by parameter name (with
    underscores); the keys outside any section are under "".

    Raises UsageError naming file, line and key.
    """
    return _load(path, known, ())


def _load(
    path: Path, known: Mapping[str, Collection[str] | None], including: tuple[Path, ...]
) -> dict[str, Section]:
    """`including` are the files that led to this one, the first of them first."""
    import yaml

    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        whose = f", which {including[-1]} includes," if including else ""
        raise UsageError(f"The settings file {path}{whose} cannot be read: {reason}.") from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise UsageError(f"{where} is not valid YAML: {problem}.") from error
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise UsageError(f"{path}:1 must be a mapping of stage names to their settings.")
    settings: dict[str, Section] = {"": {}}
    for position, (key_node, value_node) in enumerate(root.value):
        key, line = _spelled(key_node.value), key_node.start_mark.line + 1
        if key == INCLUDE:
            if position:
                raise UsageError(f"{path}:{line}: {INCLUDE!r} must be the first key of the file.")
            for other in _included(f"{path}:{line}", path, value[key_node.value], including):
                for name, section in _load(other, known, (*including, path)).items():
                    settings[name] = settings.get(name, {}) | section
        elif key in SHARED_KEYS:
            settings[""][key.replace("-", "_")] = value[key_node.value]
        elif key in known:
            section = _section(path, key, value_node, value[key_node.value], known[key])
            settings[key] = settings.get(key, {}) | section
        else:
            allowed = [*SHARED_KEYS, *known, INCLUDE]
            raise UsageError(f"{path}:{line}: unknown key {key!r}.", nearest(key, allowed))
    return settings


def _included(where: str, path: Path, value: Any, including: tuple[Path, ...]) -> list[Path]:
    """The files that `value` names, from the folder of `path`. Raises UsageError, for loops too."""
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) and name.isprintable() and name for name in names):
        raise UsageError(f"{where}: {INCLUDE!r} takes the path of a settings file, or a list.")
    if len(including) >= DEEPEST:
        raise UsageError(f"{where}: settings files include one another more than {DEEPEST} deep.")
    found = [path.parent / name for name in names]
    open_ones = {file.resolve() for file in (*including, path)}
    for other in found:
        if other.resolve() in open_ones:
            raise UsageError(f"{where} includes {other}, which includes this file in its turn.")
    return found


def _section(
    path: Path, stage: str, node: "yaml.Node", value: Any, known: Collection[str] | None
) -> Section:
    if value is None:
        return {}
    import yaml

    if not isinstance(node, yaml.MappingNode):
        raise UsageError(
            f"{path}:{node.start_mark.line + 1}: {stage!r} must hold key: value lines."
        )
    for key_node, _ in node.value:
        key = _spelled(key_node.value)
        if known is not None and key not in known:
            line = key_node.start_mark.line + 1
            raise UsageError(
                f"{path}:{line}: unknown key {key!r} in {stage!r}.", nearest(key, known)
            )
    return {_spelled(key).replace("-", "_"): item for key, item in value.items()}


def nearest(word: str, known: Collection[str]) -> str:
    """A hint that names the known word most like `word`, or all of them."""
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f"Did you mean {close[0]!r}?"
    return "Known are: " + ", ".join(sorted(known)) + "."


def unknown_variables(
    stages: Collection[str], known: Collection[str], environment: Mapping[str, str]
) -> list[str]:
    """A sentence on each variable that begins with `PIPELINE_` and a stage's name and sets nothing.

    `known` are the variables that do set something. Others that begin with `PIPELINE_` may be those
    of other programs.
    """
    told = []
    for name in sorted(environment):
        begun = (f"PIPELINE_{stage.upper()}" for stage in stages)
        prefix = next((each for each in begun if name.startswith(each)), None)
        if prefix is None or name in known or not environment[name]:
            continue
        # Compared by what follows: with the prefix before it, any two names are alike.
        rest = {each.removeprefix(prefix): each for each in known if each.startswith(f"{prefix}_")}
        close = difflib.get_close_matches(name.removeprefix(prefix), rest, n=1)
        hint = f"did you mean {rest[close[0]]}?" if close else "see --help for what there is."
        told.append(f"The environment variable {name} sets no option: {hint}")
    return told


def _spelled(key: Any) -> str:
    return str(key).replace("_", "-")
