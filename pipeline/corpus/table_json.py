"""Rows out of JSON lines, and out of JSON of several makes."""

import json
from collections.abc import Collection, Iterator
from itertools import chain
from typing import Any

from pipeline.corpus.json_text import JsonText
from pipeline.corpus.table_rows import (
    RAW_SHOWN,
    TOO_LONG,
    UTF16_MARKS,
    BadRow,
    OpenStream,
    Row,
    not_utf8,
    picked,
    read_lines,
    shown,
)


def read_jsonl(
    open_stream: OpenStream, name: str, columns: Collection[str] | None
) -> Iterator[Row | BadRow]:
    """The rows of a file of one JSON object a line; as `read_rows` of `tables`."""
    with open_stream() as stream:
        for number, line in enumerate(read_lines(stream), 1):
            if number == 1 and line and line.startswith(UTF16_MARKS):
                raise not_utf8(name)
            if line is None:
                yield BadRow(number, f"it {TOO_LONG}", "")
            elif not line.isspace() and line:
                value = _json_object(line)
                if isinstance(value, dict):
                    yield Row(number, picked(value, columns))
                else:
                    yield BadRow(number, value, shown(line))


def _json_object(line: bytes) -> dict[str, Any] | str:
    """The object that a line holds, or why it holds none."""
    try:
        value = json.loads(line.rstrip(b"\r\n").decode("utf-8"))
    except UnicodeDecodeError as error:
        return f"it is not UTF-8 (byte {error.start + 1} of the line)"
    except json.JSONDecodeError as error:
        return f"it is no JSON: {error.msg} (character {error.pos + 1} of the line)"
    except ValueError:  # a number of more than 4,300 digits
        return "it is no JSON that can be read: a number is too long"
    except RecursionError:
        return "it is no JSON that can be read: it is nested too deep"
    return value if isinstance(value, dict) else _no_object(value)


def _no_object(value: Any) -> str:
    return f"it is no JSON object but of type {type(value).__name__}"


def read_json(
    open_stream: OpenStream, name: str, columns: Collection[str] | None
) -> Iterator[Row | BadRow]:
    """An array of objects; an object with such an array under one key; or JSON lines after all."""
    if _is_json_lines(open_stream):
        yield from read_jsonl(open_stream, name, columns)
        return
    with open_stream() as stream:
        text = JsonText(stream, name)
        values = text.array() if text.peek() == "[" else _objects(text)
        for number, value in enumerate(values, 1):
            if isinstance(value, dict):
                yield Row(number, picked(value, columns), "row")
            else:
                raw = json.dumps(value)[:RAW_SHOWN]
                yield BadRow(number, _no_object(value), raw, "row")
        if text.peek():
            text.fail("more follows where the file should end")


def _is_json_lines(open_stream: OpenStream) -> bool:
    """Whether the first line that holds anything is an object and not the last such line."""
    with open_stream() as stream:
        filled = (line for line in read_lines(stream) if line is None or line.strip())
        first = next(filled, None)
        if first is None or first.lstrip()[:1] != b"{" or next(filled, b"") == b"":
            return False
        return isinstance(_json_object(first), dict)


def _objects(text: JsonText) -> Iterator[Any]:
    """Objects one after the other, and instead of one that wraps an array of objects, these."""
    while text.peek() == "{":
        other: dict[str, Any] = {}
        wrapped: str | None = None
        for key in text.members():
            if text.peek() != "[":
                other[key] = text.value()
                continue
            items = text.array()
            first = next(items, None)
            if not isinstance(first, dict) or _is_turn(first):
                other[key] = text.limited(chain([] if first is None else [first], items))
                continue
            if wrapped is not None:
                text.fail(f"it has a list of rows under {wrapped!a} and another under {key!a}")
            wrapped = key
            yield first
            yield from items
        if wrapped is None:
            yield other


def _is_turn(item: dict[str, Any]) -> bool:
    """Whether a list of such items is a chat, which is one row, and not a list of rows."""
    return {"role", "content"} <= item.keys() or {"from", "value"} <= item.keys()
