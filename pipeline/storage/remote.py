"""One request to a remote store: http(s) servers, and what all stores have in common.

A remote answers four questions about an address (`stat`, `list`, `get`, `put`), each with one try;
what went wrong is a Trouble that knows whether it may pass. Everything runs on fsspec's event loop.
"""

import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlsplit

from pipeline.errors import PipelineError, UsageError
from pipeline.storage.urls import Entry, redact, user_agent

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

CONNECTIONS = 128  # at once, over all hosts
_CONNECTIONS_PER_HOST = 16  # to a web server that never offered to be a store
PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}
CHECK_NETWORK = "Check the address and the network."
TRY_LATER = "Run the same command again later."


class Trouble(PipelineError):
    """One try that failed.

    `passes`: trying again may help. `missing`: there is no such object. `reached`: the other end
    answered at all. `denied`: it wants credentials, or others; some stores say so of what is
    missing. `wait`: the seconds that it asks for.
    """

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        *,
        passes: bool = False,
        missing: bool = False,
        reached: bool = True,
        denied: bool = False,
        wait: float | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.passes, self.missing, self.reached, self.wait = passes, missing, reached, wait
        self.denied = denied


@dataclass
class Answer:
    """An object on its way: the bytes from `start` on, in pieces.

    `size` (bytes) and `version` are those of the whole object, None where unknown. `read(n)` gives
    at most `n` bytes, none at the end; it raises Trouble.
    """

    start: int
    size: int | None
    version: str | None
    read: Callable[[int], Awaitable[bytes]]
    close: Callable[[], None]


class Remote(Protocol):
    """A store of objects; every question raises Trouble if it cannot be answered."""

    async def stat(self, url: str) -> Entry:
        """The object at `url`."""

    async def list(self, prefix: str, deep: bool) -> "list[Entry]":
        """All objects whose address begins with `prefix`, in any order.

        Those in folders below only if `deep`, or if the store makes no difference.
        """

    async def get(self, url: str, start: int, version: str | None) -> Answer:
        """The object from byte `start` on, if it still has that version."""

    async def put(self, url: str, data: bytes) -> None:
        """Make `data` the content of `url`."""

    async def close(self) -> None:
        """Close all connections."""


def missing(url: str) -> Trouble:
    shown = redact(url).rstrip("/")
    return Trouble(f"{shown} does not exist.", "Check the name.", missing=True)


def changed(url: str) -> Trouble:
    return Trouble(
        f"{redact(url)} changed while it was being read, or since it was listed.",
        "Run the same command again.",
    )


def broken_off(url: str) -> Trouble:
    return Trouble(f"{redact(url)} breaks off in the middle.", TRY_LATER, passes=True)


def unreachable(url: str, why: str) -> Trouble:
    message = f"{redact(url)} cannot be reached: {why}."
    return Trouble(message, CHECK_NETWORK, passes=True, reached=False)


def silent(url: str, timeout: float) -> Trouble:
    return Trouble(f"{redact(url)}: no answer in {timeout:g} s.", CHECK_NETWORK, passes=True)


def whole_size(content_range: str | None) -> int | None:
    """The size in `bytes 0-0/1234` and `bytes */1234`."""
    size = (content_range or "").rpartition("/")[2]
    return int(size) if size.isdigit() else None


class WebRemote:
    """Files on web servers. `timeout` is for each wait for bytes, in seconds."""

    per_host = _CONNECTIONS_PER_HOST
    denied_hint = "The address may have expired, or need a user name and a password."

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._filesystem: Any = None

    async def session(self) -> "ClientSession":
        """fsspec's own session, with this class's limits."""
        if self._filesystem is None:
            import fsspec

            self._filesystem = fsspec.filesystem(
                "http", skip_instance_cache=True, asynchronous=True, get_client=self._client
            )
        session: ClientSession = await self._filesystem.set_session()
        return session

    async def _client(self, **_: Any) -> "ClientSession":
        from aiohttp import ClientSession, ClientTimeout, TCPConnector

        # The bytes are wanted as they are stored: sizes, ranges and ETags count those.
        return ClientSession(
            connector=TCPConnector(limit=CONNECTIONS, limit_per_host=self.per_host),
            timeout=ClientTimeout(total=None, sock_connect=self.timeout, sock_read=self.timeout),
            headers={"User-Agent": user_agent(), "Accept-Encoding": "identity"},
            auto_decompress=False,
            trust_env=True,
        )

    async def close(self) -> None:
        if self._filesystem is not None:
            await (await self._filesystem.set_session()).close()
            self._filesystem = None

    # --- the four questions -------------------------------------------------------------------

    async def stat(self, url: str) -> Entry:
        # Not HEAD, which signed addresses and many servers refuse.
        response = await self.request("GET", url, url, {"Range": "bytes=0-0"}, accept=(416,))
        response.close()
        answer = self.answer(response, url)
        return Entry(url, answer.size, answer.version)

    async def list(self, prefix: str, deep: bool) -> "list[Entry]":
        raise UsageError(
            f"{redact(prefix)}: a web server has no list of its files.",
            "Name the files one by one; braces such as {1..9} may help.",
        )

    async def get(self, url: str, start: int, version: str | None) -> Answer:
        headers = {"Range": f"bytes={start}-"} if start else {}
        if version and version.startswith('"'):  # a weak ETag never matches
            headers["If-Match"] = version
        return self.answer(await self.request("GET", url, url, headers), url)

    async def put(self, url: str, data: bytes) -> None:
        raise UsageError(
            f"{redact(url)} cannot be written.", "Give a local path, or one of s3:// or gs://."
        )

    # --- one request --------------------------------------------------------------------------

    async def request(
        self,
        method: str,
        target: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        accept: tuple[int, ...] = (),
    ) -> "ClientResponse":
        """The answer to one request to `target`, on behalf of `url`. Raises Trouble."""
        from yarl import URL

        # What is quoted stays as it is: a signature covers the spelling.
        spelled = URL(quote(target, safe="%/:=&?~#+!$,;'@()*[]"), encoded=True)
        session = await self.session()
        try:
            response = await session.request(method, spelled, headers=headers, data=data)
        except Exception as error:
            raise self.trouble(error, url) from error
        if response.status >= 400 and response.status not in accept:
            response.close()
            raise self.refusal(response, url)
        return response

    def answer(self, response: "ClientResponse", url: str) -> Answer:
        """What a response says about the object that it brings."""
        headers = response.headers
        if response.status in (206, 416):
            size = whole_size(headers.get("Content-Range"))
            span = headers.get("Content-Range", "").partition(" ")[2].partition("-")[0]
            start = int(span) if span.isdigit() else 0
        else:
            size, start = response.content_length, 0

        async def read(count: int) -> bytes:
            try:
                return await response.content.read(count)
            except Exception as error:
                raise self.trouble(error, url) from error

        return Answer(start, size, self.version(response, size), read, response.close)

    def version(self, response: "ClientResponse", size: int | None) -> str | None:
        """What changes when the content does."""
        modified = response.headers.get("Last-Modified")
        return response.headers.get("ETag") or (f"{modified} {size}" if modified else None)

    def refusal(self, response: "ClientResponse", url: str) -> Trouble:
        """What a status of 400 and more means."""
        status, shown = response.status, redact(url)
        if status in (404, 410):
            return missing(url)
        if status in (412, 416):
            return changed(url)
        if status in (401, 403, 407):
            said = f"Access to {shown} is denied (HTTP {status})."
            return Trouble(said, self.denied_hint, denied=True)
        said = f"{shown}: {urlsplit(str(response.url)).hostname} answered HTTP {status}."
        if status not in PASSING_STATUS:
            return Trouble(said, "Check the address.")
        asked = response.headers.get("Retry-After", "").strip()
        wait = float(asked) if asked.isdigit() else None
        return Trouble(said, TRY_LATER, passes=True, wait=wait)

    def trouble(self, error: Exception, url: str) -> Trouble:
        """What an exception of aiohttp means."""
        import aiohttp

        if isinstance(error, Trouble):
            return error
        if isinstance(error, TimeoutError):
            return silent(url, self.timeout)
        if isinstance(error, aiohttp.ClientPayloadError):
            return broken_off(url)
        if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
            return Trouble(
                f"The certificate of {redact(url)} is not trusted.",
                "Check the address, the clock, and SSL_CERT_FILE behind a proxy.",
            )
        if isinstance(error, aiohttp.ClientConnectorError):
            return unreachable(url, "no connection")
        if isinstance(error, aiohttp.InvalidURL | ValueError):
            return Trouble(f"{redact(url)} is no web address.", "Check the address.")
        if isinstance(error, aiohttp.TooManyRedirects):
            return Trouble(f"{redact(url)} leads in a circle.", "Check the address.")
        if isinstance(error, aiohttp.ClientError | OSError):
            return unreachable(url, "the connection broke")
        raise error
