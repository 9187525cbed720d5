"""moto's S3 in a process of its own, which refuses a request now and then.

    with s3_server(0.05) as url: ...

`python -m tests.chaos_s3 0.05` prints its address and ends with its stdin.
"""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.s3_server import KEY, SECRET, Fault, S3Server

BUCKET = "bucket"


class FailingS3(S3Server):
    """A server of which some requests are refused, or answered only in part."""

    def __init__(self, failing: float) -> None:
        super().__init__()
        self._failing, self._random = failing, random.Random(0)

    def _due(self, path: str) -> Fault | None:
        if self._random.random() >= self._failing:
            return super()._due(path)
        how = self._random.choice(
            [{"status": 503, "code": "SlowDown"}, {"status": 500}, {"cut": 9}]
        )
        return Fault("", 1, **how)  # type: ignore[arg-type]


@contextmanager
def s3_server(failing: float) -> Iterator[str]:
    """Gives the address, and names it and its keys in the environment."""
    command = [sys.executable, "-m", "tests.chaos_s3", str(failing)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        url = server.stdout.readline().strip()
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ.update({
            "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_DEFAULT_REGION": "us-east-1",
        })  # fmt: skip
        try:
            yield url
        finally:
            server.stdin.close()


def objects(url: str, prefix: str) -> dict[str, Any]:
    """The objects whose names begin so: when and with what each was last written."""
    import boto3

    client = boto3.client("s3", endpoint_url=url)
    for _ in range(9):  # some requests are refused
        try:
            found = client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        except Exception:  # noqa: BLE001, S112 - whatever it was, it is asked again
            continue
        return {one["Key"]: (one["ETag"], one["LastModified"]) for one in found}
    raise RuntimeError("the server always fails")


def main() -> None:
    """Serve until stdin ends."""
    with FailingS3(float(sys.argv[1])) as server:
        server.put(BUCKET, "nothing", b"")
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
