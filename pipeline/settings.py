"""Settings files: one YAML section per stage, keys spelled as the options are.

    data-dir: training-data/horror
    acquire:
      topic: horror
      num-records: 40
    train:
      max-steps: 500

Command line beats environment beats file beats default. A key that no stage knows is refused,
with its line and the nearest key that exists.
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

Section = dict[str, Any]


def load_settings(path: Path, known: Mapping[str, Collection[str] | None]) -> dict[str, Section]:
    """Read a settings file.

    `known` gives the option names (with hyphens) of every stage; None for a stage whose options
    are not to be checked. Returns for each section its values by parameter name (with
    underscores); the keys outside any section are under "".

    Raises UsageError naming file, line and key.
    """
    import yaml

    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(f"The settings file {path} cannot be read: {reason}.") from error
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
    for key_node, value_node in root.value:
        key, line = _spelled(key_node.value), key_node.start_mark.line + 1
        if key in SHARED_KEYS:
            settings[""][key.replace("-", "_")] = value[key_node.value]
        elif key in known:
            settings[key] = _section(path, key, value_node, value[key_node.value], known[key])
        else:
            allowed = [*SHARED_KEYS, *known]
            raise UsageError(f"{path}:{line}: unknown key {key!r}.", nearest(key, allowed))
    return settings


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


def _spelled(key: Any) -> str:
    return str(key).replace("_", "-")
