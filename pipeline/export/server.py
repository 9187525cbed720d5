"""llama.cpp's OpenAI-compatible server (that of llama-cpp-python), in a process of its own.

with open_server(settings) as server:
    print(server.url)
    server.wait()
"""

import http.client
import ipaddress
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.export.child import Child, open_child
from pipeline.export.header import check_gguf, metadata
from pipeline.export.llama import SMALL_MODEL, thread_count
from pipeline.export.process import log_file, python_module, reason, way_out
from pipeline.scoring.sampling import Sampling

PACKAGES = (
    "llama_cpp", "fastapi", "uvicorn", "sse_starlette", "starlette_context", "pydantic_settings"
)  # fmt: skip
_PATIENCE = 30.0  # seconds from the server's start to its first answer
_EVERYWHERE = ("0.0.0.0", "::")


@dataclass(frozen=True)
class ServerSettings:
    """What is served, where and how.

    `alias` is the model's name in requests and answers; `context` is in tokens, 0 the model's own.
    `sampling` are the defaults of requests that do not say; `chat_ends` are texts that end every
    answer in a chat, whatever a request says. Port 0 is any that is free.
    """

    gguf: Path
    alias: str
    host: str = "127.0.0.1"
    port: int = 8000
    context: int = 0
    threads: int | None = None
    sampling: Sampling = field(default_factory=Sampling)
    chat_ends: tuple[str, ...] = ()

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"


@dataclass(frozen=True)
class Server:
    """A server that answers. `chat` says whether the model has a template for chats."""

    child: Child
    host: str  # as a client on this machine names it
    port: int
    alias: str
    chat: bool
    end_tokens: list[int]

    @property
    def url(self) -> str:
        """Where the API is, as OpenAI's clients want it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/v1"

    def wait(self) -> None:
        """Wait until the server ends, which it does by itself only when something is wrong.

        Raises PipelineError naming the log.
        """
        while True:
            self.child.receive(silence=None)

    def ask(self, path: str, body: dict[str, Any] | None = None, timeout: float = 600) -> Any:
        """Send a request to the server, as a client does; the answer's JSON.

        Raises PipelineError for an answer that is none, OSError if there is none.
        """
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            data = None if body is None else json.dumps(body).encode()
            headers = {"Content-Type": "application/json"} if data else {}
            connection.request("GET" if data is None else "POST", f"/v1{path}", data, headers)
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK:
            raise PipelineError(f"{self.url}{path} answered {answer.status}: {text[:300]}")
        return json.loads(text)


@contextmanager
def open_server(settings: ServerSettings, log: Path | None = None) -> Iterator[Server]:
    """Start a server and wait until it answers; it has ended afterwards.

    `log` gets what llama.cpp and the server print; None keeps that only if something goes wrong.

    Raises PipelineError: a package is missing, the port is in use, the address is none of this
    machine's, or llama.cpp cannot load the GGUF.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise PipelineError(
            f"The server needs packages that are not installed: {', '.join(missing)}.",
            "Install what this product needs: pip install -r requirements.txt",
        )
    check_gguf(settings.gguf)
    request = _request(settings)
    command = python_module("pipeline.export.server_worker")
    with log_file(log) as sink, open_child(command, "llama.cpp's server", sink) as child:
        child.send(op="serve", **request)
        event = child.receive()
        if event["event"] == "error":
            raise _refusal(event, settings, child, sink)
        host = "127.0.0.1" if settings.host in _EVERYWHERE else settings.host
        server = Server(
            child, host, event["port"], settings.alias, event["chat"], event["end_tokens"]
        )
        _wait_for_answer(server)
        yield server


def _request(settings: ServerSettings) -> dict[str, Any]:
    threads = settings.threads or thread_count()
    small = settings.gguf.stat().st_size < SMALL_MODEL
    return {
        "gguf": str(settings.gguf.resolve()),
        "alias": settings.alias,
        "host": settings.host,
        "port": settings.port,
        "is_local": settings.is_local,
        "context": settings.context,
        "threads": threads,
        # See llama.SMALL_MODEL: one thread draws faster where the model is small.
        "draw_threads": settings.threads or (1 if small else threads),
        "sampling": settings.sampling.as_dict(),
        "chat_ends": list(settings.chat_ends),
        "has_template": bool(metadata(settings.gguf).get("tokenizer.chat_template")),
    }


def _refusal(
    event: dict[str, Any], settings: ServerSettings, child: Child, log: Path
) -> PipelineError:
    where = f"{settings.host}, port {settings.port}"
    if event["kind"] == "port":
        return PipelineError(
            f"Another program uses {where} already.",
            "Choose another --port (0 takes any that is free), or end that program.",
        )
    if event["kind"] == "address":
        return PipelineError(
            f"The server cannot listen on {where}: {event['message']}.",
            "--host takes an address of this machine, such as 127.0.0.1.",
        )
    why = reason(log, child.log_start)
    return PipelineError(f"llama.cpp: {event['message']}: {why} (log: {log}).", way_out(why))


def _wait_for_answer(server: Server) -> None:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            server.ask("/models", timeout=_PATIENCE)
        except OSError as error:
            if time.monotonic() > end:
                raise PipelineError(f"{server.url} does not answer: {error}.") from error
            time.sleep(0.05)
        else:
            return
