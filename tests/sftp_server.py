"""A real SSH server with SFTP on loopback (paramiko's), which serves one folder.

with SftpServer(tmp_path / "far", tmp_path / "home") as server:
    server.url                  # sftp://ada@127.0.0.1:40123/runs
    server.cut(after=100_000)   # the connection breaks after so many bytes more
    server.silent.set()         # no answers any more
"""

import os
import socket
import threading
from pathlib import Path
from typing import Any, Self

import paramiko  # type: ignore[import-untyped]

USER, PASSWORD = "ada", "p/ss@word"


class SftpServer:
    """The server. `home` gets an .ssh with a key that it lets in and with its own in known_hosts.

    `renames`: whether it knows OpenSSH's rename, which replaces a file.
    """

    def __init__(self, root: Path, home: Path, *, renames: bool = True) -> None:
        self.root, self.renames = root, renames
        self.silent = threading.Event()
        self.writes: list[str] = []  # names that were opened to be written to
        self._left: int | None = None
        self._key = paramiko.ECDSAKey.generate()
        self._transports: list[paramiko.Transport] = []
        self._home = home
        root.mkdir(parents=True, exist_ok=True)
        (home / ".ssh").mkdir(parents=True)
        own = paramiko.ECDSAKey.generate()
        own.write_private_key_file(str(home / ".ssh" / "id_ecdsa"))
        self.public = own.get_base64()

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.url = f"sftp://{USER}@127.0.0.1:{self.port}/runs"
        self.know(self._key)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self.drop()

    def know(self, *keys: Any) -> None:
        """Have just these keys of the server known to the client."""
        host = f"[127.0.0.1]:{self.port}"
        lines = [f"{host} {key.get_name()} {key.get_base64()}\n" for key in keys]
        (self._home / ".ssh" / "known_hosts").write_text("".join(lines))

    def drop(self) -> None:
        """Break all connections."""
        while self._transports:
            self._transports.pop().close()

    def cut(self, after: int) -> None:
        """Break the connection once so many bytes more were written or read."""
        self._left = after

    def moved(self, count: int) -> None:
        """So many bytes were written or read."""
        if self._left is not None:
            self._left -= count
            if self._left < 0:
                self._left = None
                threading.Thread(target=self.drop, daemon=True).start()
                raise EOFError

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            transport = paramiko.Transport(connection)
            transport.add_server_key(self._key)
            transport.set_subsystem_handler("sftp", paramiko.SFTPServer, _Files, self)
            self._transports.append(transport)
            try:
                transport.start_server(server=_Door(self))
            except (paramiko.SSHException, EOFError, OSError):  # who does not like our key
                transport.close()


class _Door(paramiko.ServerInterface):
    def __init__(self, server: SftpServer) -> None:
        self._server = server

    def get_allowed_auths(self, username: str) -> str:
        return "publickey,password"

    def check_auth_publickey(self, username: str, key: Any) -> int:
        is_known = (username, key.get_base64()) == (USER, self._server.public)
        return int(paramiko.AUTH_SUCCESSFUL if is_known else paramiko.AUTH_FAILED)

    def check_auth_password(self, username: str, password: str) -> int:
        is_right = (username, password) == (USER, PASSWORD)
        return int(paramiko.AUTH_SUCCESSFUL if is_right else paramiko.AUTH_FAILED)

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return int(paramiko.OPEN_SUCCEEDED)


class _File(paramiko.SFTPHandle):
    server: SftpServer

    def read(self, offset: int, length: int) -> Any:
        self.server.moved(length)
        return super().read(offset, length)

    def write(self, offset: int, data: bytes) -> Any:
        self.server.moved(len(data))
        return super().write(offset, data)

    def stat(self) -> Any:
        return paramiko.SFTPAttributes.from_stat(os.fstat(self.readfile.fileno()))


def _code(error: OSError) -> int:
    return int(paramiko.SFTPServer.convert_errno(error.errno or 0))


class _Files(paramiko.SFTPServerInterface):
    def __init__(self, door: _Door, server: SftpServer) -> None:
        super().__init__(door)
        self._server = server

    def _place(self, path: str) -> Path:
        if self._server.silent.is_set():
            threading.Event().wait(30)
        return self._server.root / str(self.canonicalize(path)).lstrip("/")

    def list_folder(self, path: str) -> Any:
        try:
            return [
                paramiko.SFTPAttributes.from_stat(entry.lstat(), entry.name)
                for entry in self._place(path).iterdir()
            ]
        except OSError as error:
            return _code(error)

    def stat(self, path: str) -> Any:
        try:
            return paramiko.SFTPAttributes.from_stat(self._place(path).stat())
        except OSError as error:
            return _code(error)

    lstat = stat

    def open(self, path: str, flags: int, attr: Any) -> Any:
        place = self._place(path)
        is_written = bool(flags & (os.O_WRONLY | os.O_RDWR))
        try:
            descriptor = os.open(place, flags, 0o666)
        except OSError as error:
            return _code(error)
        if is_written:
            self._server.writes.append(place.name)
        file = os.fdopen(descriptor, "wb" if is_written else "rb")
        handle = _File(flags)
        handle.server = self._server
        handle.readfile = handle.writefile = file  # type: ignore[attr-defined]
        return handle

    def _do(self, work: Any) -> int:
        try:
            work()
        except OSError as error:
            return _code(error)
        return int(paramiko.SFTP_OK)

    def remove(self, path: str) -> int:
        return self._do(self._place(path).unlink)

    def rename(self, oldpath: str, newpath: str) -> int:
        old, new = self._place(oldpath), self._place(newpath)
        return int(paramiko.SFTP_FAILURE) if new.exists() else self._do(lambda: old.rename(new))

    def posix_rename(self, oldpath: str, newpath: str) -> int:
        if not self._server.renames:
            return int(paramiko.SFTP_OP_UNSUPPORTED)
        old, new = self._place(oldpath), self._place(newpath)
        return self._do(lambda: old.replace(new))

    def mkdir(self, path: str, attr: Any) -> int:
        return self._do(self._place(path).mkdir)

    def rmdir(self, path: str) -> int:
        return self._do(self._place(path).rmdir)
