"""JSON of any length, decoded value by value."""

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NoReturn

from pipeline.corpus import table_rows
from pipeline.corpus.table_rows import TOO_LONG, UTF16_MARKS, not_utf8
from pipeline.errors import PipelineError


class JsonText:
    """JSON of any length, decoded value by value: memory holds one of them and a piece of text."""

    _SPACE = re.compile(r"[ \t\r\n]*")
    _decoder = json.JSONDecoder()

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self._name = name
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._at = 0  # what lies before it in the text is dealt with
        self._line = 1  # of the first character of the text
        self._dropped = 0  # characters before the text
        self._ended = False

    def peek(self) -> str:
        """The next character that is no white space; none at the end."""
        while True:
            space = self._SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._more()

    def take(self, allowed: str) -> str:
        """The next character, one of `allowed`."""
        found = self.peek()
        if not found or found not in allowed:
            wanted = " or ".join(f"'{character}'" for character in allowed)
            self.fail(f"{wanted} is missing" + ("" if found else " at its end"))
        self._at += 1
        return found

    def array(self) -> Iterator[Any]:
        """The elements of an array."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        while True:
            yield self.value()
            if self.take(",]") == "]":
                return

    def members(self) -> Iterator[str]:
        """The keys of an object, in order; the caller takes the value of each before the next."""
        self.take("{")
        if self.peek() == "}":
            self.take("}")
            return
        while True:
            if self.peek() != '"':
                self.fail("a key in quotation marks is missing")
            key = self.value()
            self.take(":")
            yield key
            if self.take(",}") == "}":
                return

    def value(self) -> Any:
        """The next value, whatever it is."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._ended or not self._may_be_cut(error):
                    self.fail(error.msg, error.pos)
            except (ValueError, RecursionError):
                self.fail("a number is too long, or a list nested too deep")
            else:
                # At the end of what was read "1", even "1e-", may be the beginning of "1e-5".
                if end + 2 < len(self._text) or self._ended:
                    self._at = end
                    return value
            self._more()

    def limited(self, values: Iterable[Any]) -> list[Any]:
        """The values as a list, unless they are longer than a row may be."""
        start = self._dropped + self._at
        kept = []
        for value in values:
            if self._dropped + self._at - start > table_rows.LARGEST_ROW:
                self.fail(f"a list in it {TOO_LONG}")
            kept.append(value)
        return kept

    def fail(self, reason: str, at: int | None = None) -> NoReturn:
        """Raises PipelineError naming file and line."""
        line = self._line + self._text.count("\n", 0, self._at if at is None else at)
        raise PipelineError(f"{self._name}:{line} is no JSON: {reason}.")

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        """Whether it may come of the text's end: no escape and no literal has 16 characters."""
        return error.pos > len(self._text) - 16 or error.msg.startswith("Unterminated string")

    def _more(self) -> None:
        """Read at least as much as is left, so that a long value is not tried too often."""
        left = len(self._text) - self._at
        if left > table_rows.LARGEST_ROW:
            self.fail(f"a value in it {TOO_LONG}")
        self._line += self._text.count("\n", 0, self._at)
        self._dropped += self._at
        self._text, self._at = self._text[self._at :], 0
        data = self._stream.read(max(table_rows.PIECE, left))
        if self._dropped == 0 and not self._text and data.startswith(UTF16_MARKS):
            raise not_utf8(self._name)
        try:
            self._text += self._utf8.decode(data, final=not data)
        except UnicodeDecodeError as error:
            line = self._line + self._text.count("\n")
            line += error.object.count(b"\n", 0, error.start)
            raise PipelineError(f"{self._name}:{line} is not UTF-8.") from error
        self._ended = not data
