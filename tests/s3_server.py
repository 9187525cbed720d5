"""A real S3 server on loopback (moto's), with a gate in front that can slow, refuse and cut.

with S3Server() as s3:
    s3.put("bucket", "key", b"...")
    s3.fail("key", cut=1000)      # the next answer for it breaks off after 1000 bytes
    s3.requests                   # what was asked so far
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

KEY, SECRET = "AKIALOOPBACKONLY", "secretThatOnlyTheseTestsKnow"
REGION = "us-east-1"


@dataclass(frozen=True)
class Request:
    """What a client asked; `path` is as it was spelled, without the query."""

    method: str
    path: str
    query: str
    range: str | None
    if_match: str | None
    signed: bool


@dataclass
class Fault:
    """What happens to the next `times` requests whose decoded path ends with `part`."""

    part: str
    times: int
    status: int = 0
    code: str = ""
    cut: int | None = None
    silent: float = 0.0
    before: Callable[[], None] | None = None


class S3Server:
    """The server; see the module. `latency` (seconds) delays every answer."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.latency = 0.0
        self.most_at_once = 0  # requests that were under way together
        self._under_way = 0
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def __enter__(self) -> "S3Server":
        from moto.moto_server.werkzeug_app import (
            DomainDispatcherApplication,
            MotoRequestHandler,
            create_backend_app,
        )
        from moto.s3.models import s3_backends
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else a line for every request
        self._backend = s3_backends["123456789012"]["aws"]
        self._backend.reset()
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server(
            "127.0.0.1", 0, self._gate, threaded=True, request_handler=MotoRequestHandler
        )
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._backend.reset()

    def reset(self) -> None:
        """Forget buckets, faults and requests."""
        self._backend.reset()
        self.requests.clear()
        self._faults.clear()
        self.latency = 0.0

    def put(self, bucket: str, key: str, data: bytes, public: bool = True) -> None:
        """Store an object without a request; its bucket is made if need be."""
        from moto.s3.models import get_canned_acl

        if bucket not in self._backend.buckets:
            self._backend.create_bucket(bucket, REGION)
        stored = self._backend.put_object(bucket, key, data)
        stored.set_acl(get_canned_acl("public-read" if public else "private"))

    def get(self, bucket: str, key: str) -> bytes:
        """The content of an object, without a request."""
        found = self._backend.get_object(bucket, key)
        value: bytes = found.value if found is not None else b""
        return value

    def fail(self, part: str, times: int = 1, **what: Any) -> None:
        """Make the next requests go wrong: status and code, cut, or silent (seconds)."""
        self._faults.append(Fault(part, times, **what))

    def heal(self) -> None:
        """Forget all faults that are still to come."""
        with self._lock:
            self._faults.clear()

    def asked(self, method: str, part: str = "") -> list[Request]:
        """The requests so far of a method whose decoded path ends with `part`."""
        return [r for r in self.requests if r.method == method and unquote(r.path).endswith(part)]

    # --- the gate -----------------------------------------------------------------------------

    def _gate(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["REQUEST_URI"].partition("?")[0]
        with self._lock:
            self.requests.append(
                Request(
                    environ["REQUEST_METHOD"],
                    path,
                    environ.get("QUERY_STRING", ""),
                    environ.get("HTTP_RANGE"),
                    environ.get("HTTP_IF_MATCH"),
                    "HTTP_AUTHORIZATION" in environ,
                )
            )
            fault = self._due(unquote(path))
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
        if self.latency:
            time.sleep(self.latency)
        with self._lock:
            self._under_way -= 1
        if fault is None:
            answer: Iterable[bytes] = self._moto(environ, start_response)
            return answer
        if fault.before is not None:
            fault.before()
        if fault.silent:
            self._stopping.wait(fault.silent)
            raise ConnectionError("no answer, on purpose")
        if fault.status:
            start_response(f"{fault.status} Refused", [("Content-Type", "application/xml")])
            text = f"<Error><Code>{fault.code}</Code><Message>No {SECRET}</Message></Error>"
            return [text.encode() if environ["REQUEST_METHOD"] != "HEAD" else b""]
        return _cut(self._moto(environ, start_response), fault.cut)

    def _due(self, path: str) -> Fault | None:
        for fault in self._faults:
            if path.endswith(fault.part) and fault.times > 0:
                fault.times -= 1
                return fault
        return None


def _cut(parts: Iterable[bytes], after: int | None) -> Iterator[bytes]:
    body = b"".join(parts)
    if after is None:
        yield body
        return
    yield body[:after]
    raise ConnectionError("cut, on purpose")
