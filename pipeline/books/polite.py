"""How the program behaves on the web: as a guest that says who it is and can wait.

- One connection per host. A `User-Agent` with the name of the project.
- Trouble that may pass (HTTP 429 and 5xx, time-outs, bodies that break off) is met with growing,
  random waits, or the wait that the server asks for, until tries or patience run out.
- The main site of Project Gutenberg lends itself to readers, not to programs: a pause stands
  between two downloads, and each one is taken from a daily quota. Both look at the host that is
  asked in the end, so that neither a mirror nor a redirect leads around them.
"""

import random
import socket
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pipeline.books.addresses import (
    MAIN_HOSTS,
    Kind,
    RequestFailed,
    host_of,
    is_main_site,
    redacted,
    redirected,
    refused,
    web_address,
)
from pipeline.books.quota import DailyQuota
from pipeline.console import say
from pipeline.storage.urls import user_agent as our_user_agent

if TYPE_CHECKING:
    from requests import Response, Session

LARGEST_BODY = 64 * 1024 * 1024  # bytes; the largest plain text of the catalogue has some 30 MB

_RETRY_STATUS = {429, 500, 502, 503, 504}
_MOST_REDIRECTS = 10
_LONGEST_WAIT = 300.0  # seconds; whoever asks for more is asked again another day
_WORTH_A_WORD = 5.0  # seconds of waiting that need an explanation
_FIRST_TRIES = 3  # a server never reached is not worth a long wait
_PIECE = 2**16  # bytes


@dataclass(frozen=True)
class Answer:
    """What a server answered, whole. `url` is the address that answered in the end; the names of
    `headers` may be asked for in any case."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes
    url: str

    @property
    def said(self) -> str:
        """`HTTP 404 Not Found`."""
        return f"HTTP {self.status} {self.reason}".strip()


class PoliteSession:
    """Makes GET requests, one after the other. To be closed, or used in a `with` block.

    All times are in seconds. `timeout` is for each wait for bytes; `pause` stands between two
    downloads from the main site, from the end of one to the start of the next; `tries` is how
    often a request is made at most, and `patience` how long it may take in all, waits included.
    `main_hosts` are the hosts of the main site. `quota`, if given, is asked before each download
    from there. `largest` is the most bytes that a body may have. `sleep`, `jitter` (a number from
    0 to 1) and `clock` can be replaced in tests.
    """

    def __init__(
        self,
        user_agent: str | None = None,
        timeout: float = 30.0,
        pause: float = 2.0,
        tries: int = 5,
        patience: float = 600.0,
        main_hosts: Collection[str] = MAIN_HOSTS,
        quota: DailyQuota | None = None,
        largest: int = LARGEST_BODY,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.main_hosts = tuple(main_hosts)
        self._timeout = timeout
        self._pause = pause
        self._tries = tries
        self._patience = patience
        self._quota = quota
        self._largest = largest
        self._sleep = sleep
        self._jitter = jitter
        self._clock = clock
        self._session = _session(user_agent or our_user_agent())
        self._answered: set[str] = set()  # hosts
        self._last_download: float | None = None  # from the main site; by the clock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._session.close()

    def get(
        self,
        url: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        download: bool = False,
        tries: int | None = None,
    ) -> Answer:
        """The answer, whatever its status except 429 and 5xx, after as many tries as it is worth.

        Redirects are followed. `download` says that a book is asked for and not a page of a
        catalogue: pause and quota of the main site apply, to each try. `tries`, if given, replaces
        the session's.

        Raises RequestFailed if no whole answer came, and what the quota raises.
        """
        url = web_address(url, query)
        most = self._tries if tries is None else tries
        tried, spent = 0, 0.0
        while True:
            began = self._clock()
            outcome = self._try(url, headers or {}, download, began + self._patience - spent)
            if isinstance(outcome, Answer):
                return outcome
            spent += self._clock() - began
            tried += 1
            # Clients that were refused together must not come back together.
            wait = max(outcome.asked_wait or 0.0, 2.0 ** (tried - 1) * (0.5 + self._jitter()))
            allowed = most if outcome.host in self._answered else min(most, _FIRST_TRIES)
            if (
                tried >= allowed
                or (outcome.asked_wait or 0.0) > _LONGEST_WAIT
                or spent + wait > self._patience
            ):
                raise _given_up(url, outcome, tried) from outcome.cause
            if wait >= _WORTH_A_WORD:
                say(f"{outcome.host} {outcome.said}; asking again in {wait:.0f} s.")
            spent += wait
            self._sleep(wait)

    def _try(
        self, url: str, headers: Mapping[str, str], download: bool, deadline: float
    ) -> "Answer | _Trouble":
        """One try, through all redirects; one download if it comes to the main site."""
        admitted = False
        try:
            for _ in range(_MOST_REDIRECTS + 1):
                if download and not admitted and is_main_site(host_of(url), self.main_hosts):
                    self._wait_and_count()
                    admitted = True
                outcome = self._ask(url, headers, deadline)
                if not isinstance(outcome, _Redirect):
                    return outcome
                url = outcome.url
            raise refused(url, "redirects in a circle")
        finally:
            if admitted:
                self._last_download = self._clock()

    def _wait_and_count(self) -> None:
        """Keep the pause of the main site, and take one download of the quota."""
        if self._last_download is not None:
            left = self._last_download + self._pause - self._clock()
            if left > 0:
                self._sleep(left)
        if self._quota is not None:
            self._quota.take()

    def _ask(
        self, url: str, headers: Mapping[str, str], deadline: float
    ) -> "Answer | _Redirect | _Trouble":
        """One request: an answer, where to go on, or trouble that may pass."""
        import requests

        host = host_of(url)
        try:
            response = self._session.get(
                url, headers=dict(headers), timeout=self._timeout, stream=True,
                allow_redirects=False,
            )  # fmt: skip
        except requests.Timeout as error:
            unreachable = f"no answer in {self._timeout:g} s"
            return _Trouble(host, "does not answer", unreachable=unreachable, cause=error)
        except requests.exceptions.SSLError as error:
            unreachable = "no secure connection, its certificate is not accepted"
            return _Trouble(host, "does not answer", unreachable=unreachable, cause=error)
        except requests.ConnectionError as error:
            return _Trouble(host, "does not answer", unreachable="no connection", cause=error)
        except (requests.RequestException, ValueError) as error:  # no such host name, odd headers
            raise refused(url, "cannot be asked: the address makes no sense") from error
        with response:
            self._answered.add(host)
            if response.status_code in _RETRY_STATUS:
                return _Trouble(
                    host,
                    f"answered HTTP {response.status_code}",
                    asked_wait=_retry_after(response),
                    status=response.status_code,
                )
            _acknowledge(response)
            body = self._body(response, url, deadline)
            if isinstance(body, _Trouble):
                return body
            if response.is_redirect:
                return _Redirect(redirected(url, response.headers["Location"]))
            reason = response.reason or ""
            return Answer(response.status_code, reason, response.headers, body, url)

    def _body(self, response: "Response", url: str, deadline: float) -> "bytes | _Trouble":
        """The body, of the length that was announced, or the trouble on the way."""
        from urllib3.exceptions import HTTPError

        host = host_of(url)
        pieces: list[bytes] = []
        size = 0
        try:
            # Not iter_content(): that waits for a full piece, however slowly it drips in.
            while piece := response.raw.read1(_PIECE, decode_content=True):
                pieces.append(piece)
                size += len(piece)
                if size > self._largest:
                    raise refused(url, f"sends more than {self._largest // 2**20} MB")
                if self._clock() > deadline:
                    return _Trouble(host, "is too slow")
        except HTTPError as error:  # urllib3 holds the length against Content-Length
            return _Trouble(host, "broke off in the middle", cause=error)
        return b"".join(pieces)


def _acknowledge(response: "Response") -> None:
    """Tell the server at once that the head of its answer came.

    Servers that write head and body apart hold the body back until then (Nagle's algorithm), and
    a kernel takes its time, 40 ms with Linux, on a connection that has been in use.
    """
    connection = getattr(response.raw, "connection", None)
    sock = getattr(connection, "sock", None)
    option = getattr(socket, "TCP_QUICKACK", None)  # Linux has it
    if sock is not None and option is not None:
        with suppress(OSError):  # it is hung up already: nothing to tell
            sock.setsockopt(socket.IPPROTO_TCP, option, 1)


def _session(user_agent: str) -> "Session":
    """A session of requests with one connection per host, which follows no redirect."""
    import requests  # 0.1 s, and only this stage needs it
    from requests.adapters import HTTPAdapter

    class OneHop(requests.Session):
        def get_redirect_target(self, resp: "Response") -> None:
            """None: even with `allow_redirects=False`, requests would read all of the body."""

    session = OneHop()
    session.headers["User-Agent"] = user_agent
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=1, pool_block=True))
    return session


@dataclass(frozen=True)
class _Redirect:
    url: str


@dataclass(frozen=True)
class _Trouble:
    """A try that failed in a way that may pass."""

    host: str
    said: str  # what the server did, behind its name
    asked_wait: float | None = None  # seconds, by Retry-After
    status: int | None = None
    unreachable: str = ""  # why, if the server was not reached at all
    cause: Exception | None = None


def _given_up(url: str, trouble: _Trouble, tried: int) -> RequestFailed:
    tries = f"({tried} tries)" if tried > 1 else "(one try)"
    later = "Run the same command again later: what has come is kept."
    if trouble.unreachable:
        reason = f"cannot be reached: {trouble.unreachable} {tries}"
        return RequestFailed(
            "unreachable", reason, f"{redacted(url)} {reason}.", "Check the network."
        )
    if trouble.status == 429 or trouble.asked_wait is not None:
        wait = f" for {trouble.asked_wait:.0f} seconds" if trouble.asked_wait else ""
        reason = f"wants no more requests{wait} {tries}"
        return RequestFailed("busy", reason, f"{trouble.host} {reason}.", later)
    reason = f"{trouble.said} {tries}"
    kind: Kind = "cut" if trouble.status is None else "error"
    return RequestFailed(kind, reason, f"{redacted(url)} {reason}.", "Try again later.")


def _retry_after(response: "Response") -> float | None:
    """Seconds that the server asks for, given as a number or as a date."""
    from email.utils import parsedate_to_datetime

    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
