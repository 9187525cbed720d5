"""fsspec's file systems for writing: which one an address means, and what its errors mean."""

import errno
import os
from collections.abc import Mapping
from typing import Any

from pipeline.errors import UsageError
from pipeline.storage.remote import CHECK_NETWORK, Trouble, missing, silent
from pipeline.storage.urls import LOCAL, SCHEMES, canonical, redact, scheme

_ALIASES = {"s3a": "s3", "gcs": "gs"}


def parsed(url: str) -> tuple[str, str]:
    """The protocol of an address, and its one spelling. Raises UsageError."""
    head, mark, rest = url.partition("://")
    protocol = _ALIASES.get(head.lower(), head.lower()) if mark else LOCAL
    if protocol in ("http", "https") or "::" in url:
        raise UsageError(
            f"{redact(url)} cannot be written to.", "Give a folder, or s3://, gs:// or hf://."
        )
    if protocol in SCHEMES:
        return scheme(url), canonical(url)
    from fsspec import get_filesystem_class

    try:
        get_filesystem_class(protocol)
    except ValueError as error:
        raise UsageError(
            f"{redact(url)} cannot be written to: {head}:// is not known here.",
            "Give a folder, s3://, gs://, hf://, or another address that fsspec knows.",
        ) from error
    except ImportError as error:
        raise UsageError(
            f"{redact(url)} needs a package that is not installed.",
            f"Install what fsspec asks for with {head}://.",
        ) from error
    return protocol, f"{protocol}://{rest}"


def connect(protocol: str, address: str, timeout: float) -> tuple[Any, str]:
    """The file system of an address that was `parsed`, and the place that it means there."""
    import fsspec

    fresh: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    place = address.partition("://")[2].rstrip("/")
    if protocol == LOCAL:
        return fsspec.filesystem("file", auto_mkdir=True), address.rstrip("/")
    if protocol == "s3":
        return _s3(fresh, timeout), place
    if protocol == "gs":
        # An emulator takes no credentials, and looking for them takes seconds.
        token = "anon" if os.environ.get("STORAGE_EMULATOR_HOST") else None
        return fsspec.filesystem("gs", token=token, **fresh), place
    files, root = fsspec.url_to_fs(address, **fresh)
    return files, spelled(root)


def _s3(fresh: Mapping[str, Any], timeout: float) -> Any:
    import fsspec
    from botocore.session import Session  # type: ignore[import-untyped]

    files = fsspec.filesystem(
        "s3",
        anon=Session().get_credentials() is None,
        config_kwargs={
            "connect_timeout": timeout,
            "read_timeout": timeout,
            "retries": {"total_max_attempts": 1},  # tries are counted here, not in three layers
        },
        **fresh,
    )
    files.retries = 1
    return files


def spelled(path: str) -> str:
    """A path of a file system without a slash at its end."""
    return "/" + path.strip("/") if path.startswith("/") else path.rstrip("/")


def trouble(error: Exception, shown: str, seconds: float) -> Trouble:
    """What an exception of a file system means. Its own text is kept out: it may hold secrets."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, Trouble):
        return error
    if isinstance(error, TimeoutError):
        return silent(shown, seconds)
    if isinstance(error, PermissionError) or status in (401, 403):
        return Trouble(
            f"Access to {shown} is denied.",
            "Check that the credentials in the environment may list, read, write and delete there.",
            denied=True,
        )
    if isinstance(error, FileNotFoundError) or status == 404:
        return missing(shown)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Trouble(f"{shown}: the disk is full.", "Make room there.", passes=True)
    kind = type(error).__name__ + (f" {status}" if status else "")
    return Trouble(f"{shown} cannot be used ({kind}).", CHECK_NETWORK, passes=True)
