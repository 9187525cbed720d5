"""A terminal for tests: a pty, and what a person would see on it."""

import codecs
import os
import pty
import re
import select
import struct
import subprocess
import sys
import time
from fcntl import ioctl
from termios import TIOCSWINSZ

_TOKEN = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b\][^\x07]*\x07|(\r)|(\n)|([^\x1b\r\n]+)")


class Screen:
    """Draws what a program writes, as far as progress bars go: lines, cursor up, erase."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.lines: list[str] = [""]
        self.row = self.column = 0

    def feed(self, text: str) -> None:
        """Take in output. Raises ValueError for a command that it does not know."""
        for match in _TOKEN.finditer(text):
            argument, command, back, down, plain = match.groups()
            if plain:
                self._write(plain)
            elif back:
                self.column = 0
            elif down:
                self._down()
            elif command == "A":
                self.row = max(0, self.row - int(argument or 1))
            elif command == "K":
                self.lines[self.row] = "" if argument == "2" else self._head()
            elif command not in ("m", "h", "l", None):
                raise ValueError(match.group())

    def shown(self) -> list[str]:
        """The lines that are not empty."""
        return [line.rstrip() for line in self.lines if line.strip()]

    def _head(self) -> str:
        return self.lines[self.row][: self.column]

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append("")

    def _write(self, text: str) -> None:
        for character in text:
            if self.column == self.width:
                self._down()
                self.column = 0
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + character + line[self.column + 1 :]
            self.column += 1


def frames_of(program: str, width: int = 80, seconds: float = 30.0) -> list[list[str]]:
    """Run Python code on a terminal and return each picture that it showed, as lines."""
    main, side = pty.openpty()
    ioctl(side, TIOCSWINSZ, struct.pack("HHHH", 30, width, 0, 0))
    environment = {
        k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES", "CI")
    }
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=side, stdout=side, stderr=side,
        env=environment | {"TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(side)
    screen, frames, end = Screen(width), [], time.monotonic() + seconds
    decoder = _Decoder()
    try:
        while time.monotonic() < end and (data := _read(main)) is not None:
            if data:
                screen.feed(decoder.decode(data))
                frames.append(screen.shown())
    finally:
        os.close(main)
        process.kill()
        process.wait()
    return frames


def _read(terminal: int) -> bytes | None:
    """What is written until there is a pause, so that a picture is whole; None at the end."""
    data = b""
    while select.select([terminal], [], [], 0.01 if data else 0.05)[0]:
        try:
            more = os.read(terminal, 65536)
        except OSError:  # the program has gone
            more = b""
        if not more:
            return data or None
        data += more
    return data


class _Decoder:
    """Text of bytes that come in pieces, with whole characters and whole escape sequences."""

    def __init__(self) -> None:
        self._characters = codecs.getincrementaldecoder("utf-8")()
        self._rest = ""

    def decode(self, data: bytes) -> str:
        text = self._rest + self._characters.decode(data)
        escape = text.rfind("\x1b", -16)
        whole = escape < 0 or _TOKEN.match(text, escape)
        cut = len(text) if whole else escape
        self._rest = text[cut:]
        return text[:cut]
