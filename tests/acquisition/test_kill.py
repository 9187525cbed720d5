"""Stage 1 killed at any write, and a stream larger than memory should be."""

import gzip
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.acquisition.data import counts, names
from tests.chain import ROOT, contents, environment, in_process, killed_at
from tests.s3_server import S3Server


def fill(s3: S3Server) -> None:
    for n in range(1, 7):
        s3.put("lib", f"tales/tale {n}.txt", f"Tale number {n}.\n".encode())
    rows = [json.dumps({"text": f"Row {n}."}) for n in range(4)]
    s3.put("lib", "rows.jsonl.gz", gzip.compress("\n".join(rows).encode(), mtime=0))
    pairs = [json.dumps({"prompt": f"P{n}", "completion": f" C{n}"}) for n in range(4)]
    s3.put("lib", "pairs.jsonl", "\n".join(pairs).encode())


ACQUIRE = (
    "acquire", "--source", "s3://lib/tales/", "--source", "s3://lib/{rows.jsonl.gz,pairs.jsonl}",
    "--data-dir",
)  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, bytes]:
    """What the command makes if nothing kills it; filled by the first test that needs it."""
    return {}


@pytest.mark.parametrize("write", [1, 6, 7, 12])
def test_killed_at_any_write_the_same_command_gives_the_same_files(
    s3: S3Server, tmp_path: Path, write: int, undisturbed: dict[str, bytes]
) -> None:
    fill(s3)
    if not undisturbed:
        in_process(*ACQUIRE, tmp_path / "straight")
        undisturbed |= contents(tmp_path / "straight" / "1_raw")
    killed_at(write, *ACQUIRE, tmp_path / "killed")
    in_process(*ACQUIRE, tmp_path / "killed")
    assert contents(tmp_path / "killed" / "1_raw") == undisturbed
    assert len(undisturbed) == 6 + 4 + 1 + 1


MEMBER_ROWS, MEMBERS = 256, 48  # rows of 64 kB: 16 MB in each gzip member, 0.8 GB in all


@pytest.fixture
def stream() -> Iterator[str]:
    """The address of a table of 0.8 GB that is made as it is read."""
    row = json.dumps({"text": "All work and no play. " * 3000})[:-1].ljust(65_000) + "}\n"
    member = gzip.compress((row * MEMBER_ROWS).encode(), compresslevel=1, mtime=0)

    class Endless(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            try:
                for _ in range(1 if "0-0" in self.headers.get("Range", "") else MEMBERS):
                    self.wfile.write(member)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the probe has seen enough

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endless)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/big.jsonl.gz"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_a_stream_of_most_of_a_gigabyte_needs_no_more_memory_than_a_small_one(
    stream: str, tmp_path: Path
) -> None:
    script = (
        "import resource, sys\nfrom pipeline.cli import main\ntry:\n    main()\nfinally:\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )

    def peak(data: Path, *options: str) -> int:
        """The most memory of a run, in MB."""
        result = subprocess.run(
            [sys.executable, "-c", script, "acquire", "--source", stream, "--data-dir", str(data),
             *options],
            cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300, check=True,
        )  # fmt: skip
        return int(result.stdout.split()[-1]) // (1024 if sys.platform == "linux" else 2**20)

    small = peak(tmp_path / "small", "--limit", "3")
    large = peak(tmp_path / "large", "--fraction", "0.0005")
    taken = len(names(tmp_path / "large"))
    assert 2 <= taken <= 14
    assert counts(tmp_path / "large")["not sampled"] == MEMBER_ROWS * MEMBERS - taken
    assert large < small + 60
