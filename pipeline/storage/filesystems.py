"""fsspec's file systems for writing: which one an address means, and what its errors mean."""

import errno
import io
import logging
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from secrets import token_hex
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from pipeline.errors import UsageError
from pipeline.storage.remote import CHECK_NETWORK, Trouble, missing, silent, unreachable
from pipeline.storage.urls import LOCAL, SCHEMES, canonical, redact, scheme

_ALIASES = {"s3a": "s3", "gcs": "gs", "ssh": "sftp"}
_AT_ONCE = 64  # pieces of 32 KiB that are asked of an SFTP server ahead: a window of 2 MiB
_KEEP_ALIVE = 30  # seconds of silence after which an SSH server is told that we are here


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

    if protocol == "sftp":
        _ssh_address(url)
    try:
        get_filesystem_class(protocol)
    except ValueError as error:
        raise UsageError(
            f"{redact(url)} cannot be written to: {head}:// is not known here.",
            "Give a folder, s3://, gs://, hf://, or another address that fsspec knows.",
        ) from error
    except ImportError as error:
        if protocol == "sftp":
            raise UsageError(
                f"{redact(url)} needs the package paramiko, which is not installed.",
                "Install it: pip install paramiko",
            ) from error
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
    if protocol == "sftp":
        return _sftp(address, timeout)
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
    if (of_ssh := _ssh_trouble(error, shown)) is not None:
        return of_ssh
    kind = type(error).__name__ + (f" {status}" if status else "")
    return Trouble(f"{shown} cannot be used ({kind}).", CHECK_NETWORK, passes=True)


# --- SSH ------------------------------------------------------------------------------------------


def _ssh_address(url: str) -> tuple[str, dict[str, Any], str]:
    """Host, options of the connection, and path of sftp://user@host:port/path. Raises UsageError.

    The path is absolute. User name and password are as in any address: `%40` is an @.
    """
    rest = url.partition("://")[2]
    netloc, _, path = rest.partition("/")
    try:
        parts = urlsplit(f"ssh://{netloc}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not path.strip("/") or path.startswith("~") or "?" in netloc or "#" in netloc:
        raise UsageError(
            f"{redact(url)} is no address of a folder.",
            "Give sftp://user@host/folder, with the whole path from / on; a password with other "
            "signs than letters and digits has to be percent-encoded.",
        )
    options = {"port": port, "username": parts.username, "password": parts.password}
    given = {name: value for name, value in options.items() if value is not None}
    return host, {k: unquote(v) if isinstance(v, str) else v for k, v in given.items()}, f"/{path}"


def _sftp(address: str, timeout: float) -> tuple[Any, str]:
    from fsspec.implementations.sftp import SFTPFileSystem

    host, options, path = _ssh_address(address)
    kind: Any = type("CarefulSFTPFileSystem", (_CarefulSftp, SFTPFileSystem), {})
    waits = dict.fromkeys(("timeout", "banner_timeout", "auth_timeout", "channel_timeout"), timeout)
    return kind(host, **options, **waits, skip_instance_cache=True), spelled(path)


class _CarefulSftp:
    """What fsspec's SFTP file system lacks: it takes any host for the one that it says it is, waits
    for ever, never connects again, and lists what it could not read as empty.
    """

    host: str
    ssh_kwargs: Mapping[str, Any]
    client: Any

    def __init__(self, host: str, **options: Any) -> None:
        self._connecting = threading.Lock()
        super().__init__(host, **options)  # type: ignore[call-arg]

    def _connect(self) -> None:
        """Connect to a host whose key is in ~/.ssh/known_hosts, and to no other."""
        import paramiko  # type: ignore[import-untyped]

        if not (log := logging.getLogger("paramiko")).handlers:
            log.addHandler(logging.NullHandler())  # else Python shows its tracebacks
        client = paramiko.SSHClient()
        client.load_system_host_keys()
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        try:
            client.connect(self.host, **self.ssh_kwargs)
            client.get_transport().set_keepalive(_KEEP_ALIVE)
            session = client.open_sftp()
        except BaseException:
            client.close()
            raise
        session.get_channel().settimeout(self.ssh_kwargs["timeout"])
        self.client, self._session = client, session

    @property
    def ftp(self) -> Any:
        """The session, made anew if the connection broke."""
        with self._connecting:
            transport = self.client.get_transport()
            if transport is None or not transport.is_active():
                self._connect()
            return self._session

    def drop(self) -> None:
        """End the connection, with whatever waits for an answer on it."""
        self.client.close()

    def find(self, path: str, **_: Any) -> dict[str, Mapping[str, Any]]:
        """All files below a folder. Unlike fsspec's, raises what goes wrong."""
        found: dict[str, Mapping[str, Any]] = {}
        folders = [path]
        while folders:
            try:
                listed = self.ls(folders.pop(), detail=True)  # type: ignore[attr-defined]
            except FileNotFoundError:  # not made yet, or just deleted
                continue
            folders += [info["name"] for info in listed if info["type"] == "directory"]
            found |= {info["name"]: info for info in listed if info["type"] == "file"}
        return found

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **_: Any) -> Any:
        file = self.ftp.open(path, mode, bufsize=block_size or -1)
        if mode == "rb":  # else there is one answer to wait for every 32 KiB
            file.prefetch(file.stat().st_size, max_concurrent_requests=_AT_ONCE)
        return file

    def put_file(self, lpath: str, rpath: str, **_: Any) -> None:
        with open(lpath, "rb") as file:  # noqa: PTH123
            self._put(file, rpath)

    def pipe_file(self, path: str, value: bytes, **_: Any) -> None:
        """Write a small file, which is there whole or as it was before."""
        part = f"{path}.part-{token_hex(4)}"
        try:
            self._put(io.BytesIO(value), part)
            try:
                self.ftp.posix_rename(part, path)
            except OSError:  # a server that only renames to a name that is free
                self.ftp.stat(part)  # or one that did rename, and whose answer did not come
                with suppress(FileNotFoundError):
                    self.ftp.remove(path)
                self.ftp.rename(part, path)
        except Exception:
            with suppress(Exception):
                self.ftp.remove(part)
            raise

    def _put(self, file: BinaryIO, path: str) -> None:
        try:
            self.ftp.putfo(file, path)
        except FileNotFoundError:
            self.makedirs(path.rpartition("/")[0], exist_ok=True)  # type: ignore[attr-defined]
            file.seek(0)
            self.ftp.putfo(file, path)

    def cp_file(self, *_: Any, **__: Any) -> None:
        """SFTP has no copying that every server knows."""
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    def rm_file(self, path: str) -> None:
        """Delete a file, and its folder with the last one in it."""
        self.ftp.remove(path)
        with suppress(OSError):
            self.ftp.rmdir(path.rpartition("/")[0])


def _ssh_trouble(error: Exception, shown: str) -> Trouble | None:
    """What an exception of paramiko means; None for any other. It need not be installed."""
    family = type(error).__mro__
    kinds = {kind.__name__ for kind in family if kind.__module__.startswith("paramiko")}
    if "BadHostKeyException" in kinds:
        return Trouble(
            f"The SSH server of {shown} has another key than the one in ~/.ssh/known_hosts: it may "
            "be another machine that pretends to be it.",
            "If the machine was set up anew, ask who runs it for its key, and replace the old one.",
        )
    if "SSHException" in kinds and "not found in known_hosts" in str(error):
        return Trouble(
            f"The key of the SSH server of {shown} is not in ~/.ssh/known_hosts.",
            "Sign in once with ssh, and compare the key that it shows before you accept it.",
        )
    nothing_to_show = "SSHException" in kinds and "No authentication methods" in str(error)
    if nothing_to_show or "AuthenticationException" in kinds:
        return Trouble(
            f"Access to {shown} is denied.",
            "Check the user name, and the key in ~/.ssh or in the SSH agent.",
            denied=True,
        )
    if kinds or isinstance(error, EOFError):
        return unreachable(shown, "the SSH connection failed")
    return None
