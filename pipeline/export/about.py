"""What a GGUF's header says of the model: who made it, of what, under which licence.

Whatever comes in here was written by people, or by strangers: a title, a name, a model card.
"""

from collections.abc import Iterable, Mapping
from typing import Any

LONGEST = 500  # characters of a text; a header is read into memory whole
MOST = 200  # entries of a list: a shelf may have thousands of books
HUB = "https://huggingface.co"


def about(
    *,
    author: str | None = None,
    licence: str | None = None,
    licence_link: str | None = None,
    description: str | None = None,
    version: str | None = None,
    url: str | None = None,
    base: Mapping[str, Any] | None = None,
    datasets: Iterable[Mapping[str, Any] | str] = (),
    tags: Iterable[str] = (),
    languages: Iterable[str] = (),
) -> dict[str, Any]:
    """What `gguf.convert` and `as_adapter` take as `metadata`; what is not known is left out.

    Args:
        base: a base model as `BaseModel.as_dict` has it: its name, source, licence and revision.
        datasets: Hub ids, or mappings with some of "name", "author", "version", "url".
        languages: codes such as "en".
    """
    told = {
        "general.author": author, "general.license": licence,
        "general.license.link": licence_link, "general.description": description,
        "general.version": version, "general.url": url,
    }  # fmt: skip
    values: dict[str, Any] = {key: text for key, value in told.items() if (text := plain(value))}
    if base and (entry := _base(base)):
        values["general.base_models"] = [entry]
    if sets := [entry for one in datasets if (entry := _dataset(one))]:
        values["general.datasets"] = sets[:MOST]
    for key, texts in (("general.tags", tags), ("general.languages", languages)):
        if kept := list(dict.fromkeys(text for one in texts if (text := plain(one)))):
            values[key] = kept[:MOST]
    return values


def plain(value: Any) -> str:
    """A text as one line that any reader of a GGUF can show: no control characters, no half of a
    surrogate pair, not too long. Empty for what is no text."""
    if not isinstance(value, str):
        return ""
    whole = value.encode("utf-8", "replace").decode("utf-8")
    line = " ".join("".join(c if c.isprintable() else " " for c in whole).split())
    return line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."


def clean(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The same with every text in it made plain; what is then empty is left out."""
    values: dict[str, Any] = {}
    for key, value in metadata.items():
        if isinstance(value, str):
            value = plain(value)
        elif isinstance(value, list):
            value = [clean(one) if isinstance(one, dict) else plain(one) for one in value]
            value = [one for one in value if one]
        if value:
            values[key] = value
    return values


def _base(base: Mapping[str, Any]) -> dict[str, str]:
    name, revision = plain(base.get("name")), plain(base.get("revision"))
    organization, slash, short = name.rpartition("/")
    entry = {"name": short, "version": revision}
    if slash:
        entry |= {"organization": organization, "repo_url": f"{HUB}/{name}"}
    return {key: value for key, value in entry.items() if value}


def _dataset(dataset: Mapping[str, Any] | str) -> dict[str, str]:
    if isinstance(dataset, str):
        organization, slash, short = plain(dataset).rpartition("/")
        entry = {"name": short}
        if slash:
            entry |= {"organization": organization, "repo_url": f"{HUB}/datasets/{plain(dataset)}"}
    else:
        known = ("name", "author", "version", "organization", "description", "url", "repo_url")
        entry = {key: plain(dataset.get(key)) for key in known}
    return {key: value for key, value in entry.items() if value}
