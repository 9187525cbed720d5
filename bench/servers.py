"""The servers that `bench.acquire` asks, in a process of their own until stdin ends.

    python -m bench.servers OBJECTS SIZE LATENCY

Prints the address of a Gutendex with that many books and that of an S3 server with that many
objects; each answers every request after LATENCY seconds. The S3 one speaks just what unsigned
listing and reading need: a full one spends more time on an answer than the network would.
"""

import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from xml.sax.saxutils import escape

from tests.gutendex_server import GutendexServer

WORDS = b"It was a dark and stormy night, and the shutters would not keep still.\n"


class Objects(ThreadingHTTPServer):
    """A bucket `library` with objects `tales/0000.txt` and so on."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, objects: int, body: bytes, latency: float) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.keys = [f"tales/{n:04}.txt" for n in range(objects)]
        self.body = body
        self.latency = latency

    def listing(self) -> bytes:
        """The answer to ListObjectsV2."""
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z"
            f"</LastModified><ETag>&quot;e1&quot;</ETag><Size>{len(self.body)}</Size></Contents>"
            for key in self.keys
        )
        return (
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>library</Name><KeyCount>{len(self.keys)}</KeyCount><MaxKeys>1000</MaxKeys>"
            f"<IsTruncated>false</IsTruncated>{rows}</ListBucketResult>"
        ).encode()


class Handler(BaseHTTPRequestHandler):
    """GET of the listing or of an object."""

    protocol_version = "HTTP/1.1"
    server: Objects

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        time.sleep(self.server.latency)
        path, _, query = self.path.partition("?")
        body = self.server.listing() if "list-type=2" in query else self.server.body
        if "list-type=2" not in query and path.removeprefix("/library/") not in self.server.keys:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"e1"')
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve until stdin ends."""
    objects, size, latency = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    body = (WORDS * (size // len(WORDS) + 1))[:size]
    books = {n: (f"Tale {n}", body) for n in range(1, objects + 1)}
    bucket = Objects(objects, body, latency)
    threading.Thread(target=bucket.serve_forever, daemon=True).start()
    with GutendexServer(books, latency=latency) as gutendex:
        address = f"http://127.0.0.1:{bucket.server_address[1]}"
        sys.stdout.write(f"{gutendex.url} {address}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
