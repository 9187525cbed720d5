"""A Hub on loopback: the part of its protocol that a download of a public model needs."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub(models: dict[str, Path]) -> Iterator[str]:
    """Serve these directories as models; "org/gated" is gated, all others do not exist."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def log_message(self, *arguments: object) -> None:
            """Keep the test's output clean."""

        def _answer(self, *, with_body: bool) -> None:
            path = self.path.partition("?")[0]
            if "org/gated" in path:
                return self._send(403, b"{}", with_body, {"X-Error-Code": "GatedRepo"})
            for name, folder in models.items():
                if path.startswith(f"/api/models/{name}"):
                    return self._answer_api(name, folder, path, with_body)
                if path.startswith(f"/{name}/resolve/"):
                    file = folder / path.rpartition("/")[2]
                    data = file.read_bytes()
                    etag = hashlib.sha1(data).hexdigest()
                    headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}
                    return self._send(200, data, with_body, headers)
            return self._send(404, b"{}", with_body, {"X-Error-Code": "RepoNotFound"})

        def _answer_api(self, name: str, folder: Path, path: str, with_body: bool) -> None:
            revision = path.partition("/revision/")[2] or path.partition("/tree/")[2] or "main"
            if revision not in ("main", COMMIT):
                return self._send(404, b"{}", with_body, {"X-Error-Code": "RevisionNotFound"})
            files = sorted(file for file in folder.iterdir() if file.is_file())
            if "/tree/" in path:
                value: object = [
                    {"type": "file", "path": f.name, "size": f.stat().st_size, "oid": "0" * 40}
                    for f in files
                ]
            else:
                siblings = [{"rfilename": file.name} for file in files]
                value = {"id": name, "sha": COMMIT, "siblings": siblings}
            return self._send(200, json.dumps(value).encode(), with_body, {})

        def _send(self, status: int, data: bytes, with_body: bool, headers: dict) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if with_body:
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
