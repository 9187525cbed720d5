"""What a user chose, as a whole: does it make sense together, and how the record puts it."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

from pipeline.acquisition.options import Options
from pipeline.acquisition.register import MISSED
from pipeline.acquisition.shelf import Wanted
from pipeline.acquisition.sources import Source
from pipeline.errors import UsageError
from pipeline.files import fingerprint
from pipeline.workspace import Workspace


def check_numbers(**values: float) -> None:
    """Raise UsageError for numbers that no range of an option keeps out."""
    for name, value in values.items():
        if not isfinite(value) or (name == "fraction" and value <= 0):
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} {value:g} makes no sense.", "Give a number above 0.")


def check_together(sources: Sequence[Source], wanted: Wanted) -> None:
    """Raise UsageError for options that make no sense, alone or together."""
    if wanted.is_anything and any(source.weight for source in sources):
        raise UsageError(
            "Books from the catalogue have no weight, and these sources have.",
            "Fetch the books first, with another --data-dir; then give its 1_raw as a --source.",
        )
    if wanted.archive and wanted.mirrors:
        raise UsageError("--archive and --mirror are two ways to the same books.", "Name one.")
    if (wanted.archive or wanted.mirrors) and not wanted.is_anything:
        raise UsageError(
            "--archive and --mirror say where books come from, but no books are asked for.",
            "Say which: --topic, --search or --ids.",
        )
    if wanted.is_anything:
        wanted.check()


def options_of(settings: dict[str, Any]) -> str:
    """The options of an earlier run that say which texts, as one types them."""
    words = []
    for place in settings.get("source", []):
        option = "--series" if "{segment_number" in place else "--source"
        words.append(f"{option} {shlex.quote(place)}")
    for name in ("series_base", "topic", "search", "ids", "languages", "num_records"):
        if value := settings.get(name):
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            words.append(f"--{name.replace('_', '-')} {shlex.quote(text)}")
    return " ".join(words)


def settings_of(sources: Sequence[Source], wanted: Wanted, options: Options) -> dict[str, Any]:
    """What the record is to say: the settings that decide what is in `1_raw`, without secrets."""
    shown = []
    for source in sources:
        text = source.shown
        if text != source.place:  # what is not shown counts all the same
            text += f"#{fingerprint(source.place)[:8]}"
        shown.append(text if source.weight is None else f"{text}={source.weight:g}")
    settings = {"source": sorted(shown)} | asdict(options)
    del settings["refresh"]
    return settings | (wanted.as_settings() if wanted.is_anything else {})


def is_to_be_asked_again(workspace: Workspace, wanted: Wanted) -> bool:
    """Whether something could not be fetched last time, and may be there now, or elsewhere."""
    record = workspace.record("acquire")
    counts = record.counts if record else {}
    elsewhere = bool(wanted.mirrors or wanted.archive) and bool(counts.get("refused"))
    return bool(counts.get(MISSED)) or elsewhere
