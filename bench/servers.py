"""The servers that `bench.acquire` asks, in a process of their own until stdin ends.

    python -m bench.servers OBJECTS SIZE LATENCY

Prints the address of a Gutendex with that many books and that of an S3 server with that many
objects; each answers every request after LATENCY seconds. The S3 one speaks just what unsigned
listing and reading need: a full one spends more time on an answer than the network would.
"""

import asyncio
import sys
import threading
from contextlib import suppress
from xml.sax.saxutils import escape

from tests.gutendex_server import GutendexServer

WORDS = b"It was a dark and stormy night, and the shutters would not keep still.\n"


class Bucket:
    """A bucket `library` with objects `tales/0000.txt` and so on, for unsigned requests."""

    def __init__(self, objects: int, body: bytes, latency: float) -> None:
        self.keys = {f"/library/tales/{n:04}.txt" for n in range(objects)}
        self.body = body
        self.latency = latency

    def listing(self) -> bytes:
        """The answer to ListObjectsV2."""
        rows = "".join(
            f"<Contents><Key>{escape(key.removeprefix('/library/'))}</Key>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;e1&quot;</ETag>"
            f"<Size>{len(self.body)}</Size></Contents>"
            for key in sorted(self.keys)
        )
        return (
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>library</Name><KeyCount>{len(self.keys)}</KeyCount><MaxKeys>1000</MaxKeys>"
            f"<IsTruncated>false</IsTruncated>{rows}</ListBucketResult>"
        ).encode()

    def answer(self, target: str) -> tuple[str, bytes]:
        """Status line and body."""
        path, _, query = target.partition("?")
        if "list-type=2" in query:
            return "200 OK", self.listing()
        return ("200 OK", self.body) if path in self.keys else ("404 Not Found", b"")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):  # the client hung up
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(self.latency)
                status, body = self.answer(head.split(b" ", 2)[1].decode())
                fields = f'HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nETag: "e1"\r\n\r\n'
                writer.write(fields.encode() + body)
                await writer.drain()
        writer.close()


def start(bucket: Bucket) -> str:
    """Serve a bucket from a thread of its own; returns its address."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    starting = asyncio.start_server(bucket.serve, "127.0.0.1", 0, backlog=256)
    server = asyncio.run_coroutine_threadsafe(starting, loop).result()
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def main() -> None:
    """Serve until stdin ends."""
    objects, size, latency = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    body = (WORDS * (size // len(WORDS) + 1))[:size]
    books = {n: (f"Tale {n}", body) for n in range(1, objects + 1)}
    with GutendexServer(books, latency=latency) as gutendex:
        sys.stdout.write(f"{gutendex.url} {start(Bucket(objects, body, latency))}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
