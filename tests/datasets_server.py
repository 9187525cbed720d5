"""A Hub on loopback that has datasets: what `datasets` asks for when it reads or streams one.

    with DatasetsServer({"ada/tales": {"data/train.parquet": content}}) as hub:
        hub.use(monkeypatch, tmp_path)   # the libraries of this process ask this Hub
        hub.requests                     # (method, path) of all requests so far

Questions about a dataset, listings, and files with HEAD, Range, ETag and X-Repo-Commit. Datasets
can be private (their token is `TOKEN`) or gated, and a status can take the place of an answer.
"""

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

TOKEN = "hf_LoopbackTokenThatOnlyTheseTestsKnow"
Files = dict[str, bytes]


class DatasetsServer:
    """The server and all that it holds; see the module."""

    def __init__(self, datasets: Mapping[str, Files]) -> None:
        self.datasets = {name: dict(files) for name, files in datasets.items()}
        self.private: set[str] = set()
        self.gated: set[str] = set()
        self.branches = {"main"}
        self.moved: dict[str, str] = {}  # old name -> name
        self.requests: list[tuple[str, str]] = []
        self.tokens: set[str | None] = set()
        self.sent = 0  # bytes of files
        self._faults: list[list[Any]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "DatasetsServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def use(self, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
        """Let the libraries of this process ask this Hub and keep what they cache in `home`."""
        import datasets
        import huggingface_hub.constants as constants
        from huggingface_hub import HfFileSystem

        HfFileSystem.clear_instance_cache()
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
        monkeypatch.setattr(constants, "ENDPOINT", self.url)
        template = self.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "no-token"))
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", self.url)

    def commit(self, name: str) -> str:
        """The id of a dataset's commit: it changes with the content."""
        state = sorted((path, _oid(content)) for path, content in self.datasets[name].items())
        return hashlib.sha1(json.dumps([name, state]).encode()).hexdigest()

    def fail(self, part: str, status: int, times: int = 1, **headers: str) -> None:
        """Answer the next `times` requests whose path holds `part` with a status."""
        named = {header.replace("_", "-"): value for header, value in headers.items()}
        self._faults.append([part, times, status, named])

    def fault(self, path: str) -> tuple[int, bytes, dict[str, str]] | None:
        """The fault that is due for this path, used up by one."""
        for fault in self._faults:
            if fault[0] in path and fault[1] > 0:
                fault[1] -= 1
                return fault[2], b"{}", fault[3]
        return None

    def answer(
        self, path: str, query: dict[str, list[str]], body: bytes, token: str | None
    ) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers for a path."""
        found = re.fullmatch(r"/(?P<api>api/)?datasets/(?P<rest>.+)", path)
        rest = found["rest"] if found else ""
        for old, new in self.moved.items():
            if rest == old or rest.startswith(f"{old}/"):
                place = path.replace(f"datasets/{old}", f"datasets/{new}", 1)
                return 307, b"", {"Location": place}
        name = next((n for n in self.datasets if rest == n or rest.startswith(f"{n}/")), None)
        if found is None or name is None or (name in self.private and token != TOKEN):
            # As some servers do, repeat what was sent: the client must not show it.
            return _refused(401 if token else 404, "RepoNotFound", f"not found with {token}")
        kind, _, what = rest.removeprefix(name).removeprefix("/").partition("/")
        revision, _, place = what.partition("/")
        revision = unquote(revision) or "main"
        if name in self.gated and kind == "resolve":  # what it has is seen by all
            return _refused(403 if token else 401, "GatedRepo", "gated")
        if revision not in self.branches | {self.commit(name)}:
            return _refused(404, "RevisionNotFound", "no such revision")
        if found["api"]:
            return self._about(name, kind, unquote(place), query, body)
        return self._file(name, unquote(place))

    def _about(
        self, name: str, kind: str, place: str, query: dict[str, list[str]], body: bytes
    ) -> tuple[int, bytes, dict[str, str]]:
        files = self.datasets[name]
        value: Any
        if kind in ("", "revision"):
            siblings = [{"rfilename": path} for path in files]
            value = {"id": name, "sha": self.commit(name), "siblings": siblings}
        elif kind == "paths-info":
            wanted = parse_qs(body.decode())["paths"]
            value = [entry for entry in _tree(files, "", deep=True) if entry["path"] in wanted]
        else:
            deep = query.get("recursive", ["false"])[0].lower() in ("true", "1")
            value = _tree(files, place, deep=deep)
            if place and not value:
                return _refused(404, "EntryNotFound", "no such folder")
        return 200, json.dumps(value).encode(), {"Content-Type": "application/json"}

    def _file(self, name: str, path: str) -> tuple[int, bytes, dict[str, str]]:
        content = self.datasets[name].get(path)
        commit = {"X-Repo-Commit": self.commit(name)}
        if content is None:
            status, body, headers = _refused(404, "EntryNotFound", "no such file")
            return status, body, headers | commit
        return 200, content, commit | {"ETag": f'"{_oid(content)}"', "Accept-Ranges": "bytes"}


def _tree(files: Files, folder: str, *, deep: bool) -> list[dict[str, Any]]:
    """What lies in a folder as the Hub lists it: folders, and files with size and id."""
    prefix = f"{folder}/" if folder else ""
    entries: dict[str, dict[str, Any]] = {}
    for path, content in files.items():
        if not path.startswith(prefix):
            continue
        parts = path.removeprefix(prefix).split("/")
        for depth in range(1, len(parts) if deep else min(len(parts), 2)):
            name = prefix + "/".join(parts[:depth])
            entries[name] = {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}
        if deep or len(parts) == 1:
            size = len(content)
            entries[path] = {"type": "file", "path": path, "oid": _oid(content), "size": size}
    return [entries[name] for name in sorted(entries)]


def _oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _refused(status: int, code: str, words: str) -> tuple[int, bytes, dict[str, str]]:
    body = json.dumps({"error": words}).encode()
    return status, body, {"X-Error-Code": code, "X-Error-Message": words}


def _handler(hub: DatasetsServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            hub.requests.append((self.command, self.path))
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            url = urlsplit(self.path)
            authorization = self.headers.get("Authorization")
            token = authorization.removeprefix("Bearer ") if authorization else None
            hub.tokens.add(token)
            answer = hub.fault(self.path) or hub.answer(url.path, parse_qs(url.query), body, token)
            self.send(*answer)

        do_HEAD = do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Keep the output of the tests clean."""

        def send(self, status: int, data: bytes, headers: Mapping[str, str]) -> None:
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            part: memoryview = memoryview(data)
            extra = {}
            if status == 200 and wanted:
                first, last = int(wanted[1]), int(wanted[2] or len(data) - 1)
                status, part = 206, part[first : last + 1]
                extra["Content-Range"] = f"bytes {first}-{first + len(part) - 1}/{len(data)}"
            self.send_response(status)
            for name, value in {**headers, **extra, "Content-Length": str(len(part))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                try:
                    self.wfile.write(part)
                    hub.sent += len(part)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # whoever streams may have seen enough

    return Handler
