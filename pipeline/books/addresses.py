"""Web addresses as books are fetched from them, and the error for those that lead nowhere."""

from collections.abc import Collection, Mapping
from typing import Literal
from urllib.parse import urljoin, urlsplit, urlunsplit

from pipeline.errors import PipelineError

MAIN_HOSTS = ("gutenberg.org",)
OPEN_HOSTS = ("aleph.gutenberg.org",)  # mirrors for programs that bear the name of the main site

Kind = Literal["unreachable", "busy", "error", "cut", "refused"]


class RequestFailed(PipelineError):
    """There is no answer to work with.

    `kind`: "unreachable" (no server there), "busy" (it wants no more requests), "error" (HTTP
    5xx), "cut" (bodies break off), "refused" (an answer that is not taken: too large, redirected
    to nowhere). `reason` is what the server did, to be put behind its name.
    """

    def __init__(self, kind: Kind, reason: str, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.kind = kind
        self.reason = reason


def refused(url: str, reason: str) -> RequestFailed:
    """The error for an address, or an answer, that is not taken."""
    return RequestFailed("refused", reason, f"{redacted(url)} {reason}.", "Check the address.")


def is_main_site(host: str, main_hosts: Collection[str] = MAIN_HOSTS) -> bool:
    """Whether `host` is one of `main_hosts` or below one of them (www.gutenberg.org is), and not
    one of `OPEN_HOSTS`."""
    host = host.lower().rstrip(".")
    return host not in OPEN_HOSTS and any(
        host == main or host.endswith("." + main) for main in main_hosts
    )


def redacted(url: str) -> str:
    """`url` as messages may show it: without user name, password, query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(an address that cannot be read)"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def web_address(url: str, query: Mapping[str, str] | None = None) -> str:
    """The address in the form in which it is sent, so that its host is read only in one way."""
    import requests

    try:
        sent = requests.Request("GET", url, params=dict(query or {})).prepare().url or ""
    except (requests.RequestException, ValueError) as error:
        raise refused(url, "is no web address") from error
    if urlsplit(sent).scheme not in ("http", "https"):
        raise refused(url, "is no web address")
    return sent


def redirected(url: str, target: str) -> str:
    """Where a redirect from `url` leads. Raises RequestFailed for what is no web address."""
    try:
        # Headers are read as Latin-1; what is beyond ASCII in an address is UTF-8.
        return web_address(urljoin(url, target.encode("latin-1").decode("utf-8")))
    except (RequestFailed, ValueError) as error:
        raise refused(url, "redirects to what is no web address") from error


def host_of(url: str) -> str:
    """The host of an address that `web_address` made."""
    return urlsplit(url).hostname or ""
