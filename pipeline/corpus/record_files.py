"""Files of records between the stages: `letters.completion.jsonl`, `support.chat.jsonl`.

A line is `{"prompt": ..., "completion": ...}` or `{"messages": [{"role": ..., "content": ...}]}`.
The name says which, so that a person can make or mend such a file by hand.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.corpus.examples import BadExample, ColumnNames, Shape, as_example
from pipeline.errors import PipelineError

KINDS: tuple[Shape, ...] = ("completion", "chat")
_NAMES = ColumnNames(prompt="prompt", completion="completion", messages="messages")


def kind_of(name: str) -> Shape | None:
    """What kind of records a file of this name holds; None if it is no file of records."""
    return next((kind for kind in KINDS if name.endswith(f".{kind}.jsonl")), None)


def bare_name(name: str) -> str:
    """The name of a file of records without its suffixes."""
    return name.removesuffix(".jsonl").rpartition(".")[0]


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file, checked and normalised, one at a time.

    Raises PipelineError naming file and line for a line that is no such record.
    """
    kind = kind_of(path.name)
    assert kind is not None, path
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
                if not isinstance(value, dict):
                    raise BadExample("it is no JSON object")
                yield as_example(value, kind, _NAMES)
            except BadExample as error:
                raise _bad(path, number, error.reason) from error
            except (ValueError, RecursionError) as error:
                raise _bad(path, number, "it is not JSON") from error


def characters(record: Mapping[str, Any]) -> int:
    """How long a record is, in characters of its texts."""
    if "messages" in record:
        return sum(len(message["content"]) for message in record["messages"])
    return len(record["prompt"]) + len(record["completion"])


def _bad(path: Path, number: int, reason: str) -> PipelineError:
    return PipelineError(
        f"{path}:{number}: {reason.rstrip('.')}.", "Mend the line in an editor, or delete it."
    )
