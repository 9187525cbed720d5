"""Addresses of texts: what kind they are, braces and globs in them, and how to show them safely."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from pipeline.errors import UsageError

LOCAL = "file"
SCHEMES = ("s3", "gs", "hf", "http", "https", LOCAL)
LARGEST_EXPANSION = 100_000  # addresses that one pattern of braces may stand for
_LONGEST_PATTERN = 4096  # characters; the expansion of braces recurses
_LONGEST_SHOWN_VALUE = 16  # a longer value of a query may well be a signature
_SECRET_PARAMETER = re.compile(
    r"(?i)sig|token|key|secret|pass|pwd|auth|cred|session|code|policy|^x-(amz|goog)-"
)
_HOST = re.compile(r"[^:]*(:\d*)?|\[[^]]*\](:\d*)?")
_SSH = ("sftp", "ssh")
_ALIASES = {"s3a": "s3", "gcs": "gs"}


@dataclass(frozen=True)
class Entry:
    """One object: where it is, its size in bytes, and what tells one content from the next.

    `url` is "s3://bucket/key", "https://...", or an absolute local path. It may hold credentials:
    messages show `shown`. `size` and `version` are None where the other end does not say.
    """

    url: str
    size: int | None = None
    version: str | None = None

    @property
    def name(self) -> str:
        """The last part of the path; of a web address without its query, and decoded."""
        kind = scheme(self.url)
        if kind == LOCAL:
            return Path(self.url).name
        if kind in ("http", "https"):
            return unquote(urlsplit(self.url).path.rstrip("/").rpartition("/")[2])
        return self.url.rstrip("/").rpartition("/")[2]

    @property
    def shown(self) -> str:
        """The address without credentials, for messages."""
        return redact(self.url)


def scheme(address: str) -> str:
    """One of SCHEMES; "file" for a local path. Raises UsageError for any other scheme."""
    head, mark, _ = address.partition("://")
    if not mark or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", head):
        return LOCAL
    name = _ALIASES.get(head.lower(), head.lower())
    if name not in SCHEMES:
        raise UsageError(
            f"{redact(address)} cannot be read: {head}:// is not known here.",
            "Local paths, s3://, gs://, hf://, http:// and https:// are.",
        )
    return name


def canonical(address: str) -> str:
    """The one spelling of an address: local paths absolute, without `file://` and `~`.

    Raises UsageError for an address that cannot be one, or that carries credentials where they
    would be taken for the name of a bucket.
    """
    if not address or "\0" in address:
        raise UsageError("An empty address, or one with a NUL character, cannot be read.")
    kind = scheme(address)
    if kind == LOCAL:
        return _local(address)
    rest = address.partition("://")[2]
    host, _, path = rest.partition("/")
    if not host:
        raise UsageError(f"{redact(address)} names no {'host' if 'http' in kind else 'bucket'}.")
    if kind in ("s3", "gs") and "@" in host:
        raise UsageError(
            f"{redact(address)} carries credentials.",
            "Give them in the environment (AWS_ACCESS_KEY_ID, ...), where no log shows them.",
        )
    if "http" in kind:  # a fragment never leaves the client
        return f"{kind}://{rest.partition('#')[0]}"
    return f"{kind}://{host}/{path}"


def _local(address: str) -> str:
    if "://" in address:
        host, _, path = address.partition("://")[2].partition("/")
        if host not in ("", "localhost"):
            raise UsageError(
                f"{address} names another computer.", "A local file is file:///folder/file."
            )
        from urllib.request import url2pathname  # brings ssl along

        address = url2pathname("/" + path)
    return os.path.abspath(os.path.expanduser(address))  # noqa: PTH100, PTH111


def user_agent() -> str:
    """What requests say of where they come from: `bookshelf-llm/<version>`."""
    from importlib.metadata import PackageNotFoundError, version  # 10 ms

    try:
        return f"bookshelf-llm/{version('bookshelf-llm')}"
    except PackageNotFoundError:
        return "bookshelf-llm"


def redact(address: str) -> str:
    """`address` without user names, passwords, tokens and signatures."""
    head, mark, rest = address.partition("://")
    if not mark:
        return address
    host, slash, path = rest.partition("/")
    is_host = _HOST.fullmatch(host) and not (head.lower() in _SSH and ":" in host)
    if "@" not in host and "@" in path and not is_host:
        # A password with a slash in it, which should have been percent-encoded. Of an address of
        # SSH, where passwords are usual, even one that begins with digits, as a port does.
        host, slash, path = f"@{path.rpartition('@')[2]}".partition("/")
    if "@" in host:
        host = "***@" + host.rpartition("@")[2]
    if head.lower() not in ("http", "https"):
        return f"{head}://{host}{slash}{path}"
    host, question, query = host.partition("?")
    if not question:
        path, question, query = path.partition("?")
    query = query.partition("#")[0]
    shown = "&".join(_shown(name, value) for name, value in parse_qsl(query, True))
    if query and not shown:
        shown = "***"
    return f"{head}://{host}{slash}{path}{question}{shown}"


def _shown(name: str, value: str) -> str:
    hide = _SECRET_PARAMETER.search(name) or len(value) > _LONGEST_SHOWN_VALUE or not value
    # A parameter without a value may be a bare token, so its name is no better known.
    return f"{name if value else '***'}={'***' if hide else value}"


def expand_braces(pattern: str) -> list[str]:
    """What `{1..3}`, `{01..10}` and `{a,b}` stand for, in the order written.

    Raises UsageError if that is more than LARGEST_EXPANSION addresses.
    """
    if "{" not in pattern:
        return [pattern]
    import bracex

    too_many = UsageError(
        f"The braces of {redact(pattern)[:200]} stand for more than {LARGEST_EXPANSION:,} names.",
        "Give a folder or a glob (*) instead.",
    )
    if len(pattern) > _LONGEST_PATTERN:
        raise too_many
    try:
        found = bracex.iexpand(pattern, keep_escapes=True, limit=LARGEST_EXPANSION)
        return list(dict.fromkeys(found))
    except (bracex.ExpansionLimitException, RecursionError) as error:
        raise too_many from error
    except ValueError as error:
        raise UsageError(f"The braces of {redact(pattern)[:200]} cannot be expanded.") from error


# --- globs ----------------------------------------------------------------------------------------

_MAGIC = re.compile(r"[*?\[]")
# Hidden files and folders are only found by who names the dot; "." and ".." in keys are no dots.
_VISIBLE = r"(?!\.(?!\.?(?:/|$)))"


def has_glob(path: str) -> bool:
    """Whether `path` holds any of `*`, `?` and `[`."""
    return bool(_MAGIC.search(path))


def fixed_part(pattern: str) -> str:
    """What comes before the first part of a path that has a glob in it; ends with "/" or is ""."""
    match = _MAGIC.search(pattern)
    before = pattern[: match.start()] if match else pattern
    return before[: before.rfind("/") + 1]


def glob_filter(pattern: str) -> re.Pattern[str]:
    """A regex for the paths that a glob stands for: `*` and `?` within a part, `**` for any parts.

    Raises UsageError for a glob that makes no sense (such as `[z-a]`).
    """
    parts = pattern.split("/")
    pieces = []
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "**":
            pieces.append(rf"(?:{_VISIBLE}[^/]+/)*" + (rf"{_VISIBLE}[^/]+" if last else ""))
        else:
            pieces.append(_part_regex(part) + ("" if last else "/"))
    try:
        return re.compile("".join(pieces), re.DOTALL)
    except re.error as error:
        raise UsageError(f"The pattern {redact(pattern)} makes no sense: {error}.") from error


def _part_regex(part: str) -> str:
    regex = "".join(_tokens(part))
    return regex if part.startswith(".") else _VISIBLE + regex


def _tokens(part: str) -> Iterator[str]:
    """The regex of one part of a path, piece by piece."""
    position = 0
    while position < len(part):
        char = part[position]
        position += 1
        closing = part.find("]", position + 1) if char == "[" else -1
        if char == "*":
            while position < len(part) and part[position] == "*":  # `a**` is `a*`, but not as slow
                position += 1
            yield "[^/]*"
        elif char == "?":
            yield "[^/]"
        elif closing >= 0:
            inside = part[position:closing]
            negated = inside[:1] in ("!", "^")
            inside = re.sub(r"([\\\[\]&~|^])", r"\\\1", inside[1:] if negated else inside)
            yield f"[{'^/' if negated else ''}{inside}]"
            position = closing + 1
        else:
            yield re.escape(char)


def is_visible(relative: str) -> bool:
    """Whether no part of a path below a folder is hidden."""
    return not any(p.startswith(".") and p not in (".", "..") for p in relative.split("/"))
