"""Use llama.cpp without being at its mercy: every call runs in a worker process of its own.

A crash of llama.cpp (it happens: bad files, exotic CPUs, no memory) ends as a PipelineError that
names the signal and the log, and Ctrl-C ends the worker too.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.console import progress
from pipeline.errors import PipelineError
from pipeline.export.header import check_gguf, metadata
from pipeline.export.process import (
    SILENCE_LIMIT,
    log_file,
    python_module,
    reason,
    run_logged,
    way_out,
)

if TYPE_CHECKING:
    from pipeline.export.logit_rows import Rows

__all__ = [
    "Completion",
    "Measured",
    "complete",
    "info",
    "measure",
    "metadata",
    "score",
    "thread_count",
    "tokenize",
]

# Ollama's own sampling defaults, where the guide that this product follows sets none.
TOP_K = 40
TOP_P = 0.9
MIN_P = 0.0
REPEAT_PENALTY = 1.1

# Under this size one thread draws as fast as two: what they gain they lose waiting for each other
# (105 MB on 2 idle cores: 110 tokens/s with one thread, 46 with two that wait politely).
SMALL_MODEL = 320_000_000  # bytes


@dataclass(frozen=True)
class Completion:
    """What `complete` wrote after the prompt, and how fast."""

    text: str
    tokens: int  # drawn, with the end token
    seconds: float  # from the end of the prompt on
    finish: str  # "stop": an end token or stop string; "length": max_tokens or a full context
    prompt_tokens: int
    prompt_seconds: float


def complete(
    gguf: Path,
    prompt: str | Sequence[int],
    *,
    max_tokens: int = 2048,
    temperature: float = 0.6,
    top_p: float = TOP_P,
    top_k: int = TOP_K,
    min_p: float = MIN_P,
    repeat_penalty: float = REPEAT_PENALTY,
    repeat_last_n: int = 256,
    seed: int = 0,
    context: int = 0,
    stop: Sequence[str] = (),
    threads: int | None = None,
    log: Path | None = None,
    on_text: Callable[[str], None] | None = None,
) -> Completion:
    """Let a GGUF go on from `prompt`.

    The prompt is text and nothing else: what looks like a special token in it is spelled out, and
    BOS goes first if the GGUF asks for it. One of token ids (a chat in its template) is taken as it
    is. The model's own end tokens end the completion, and so
    does any of the `stop` strings, which is not part of the text. The defaults are the guide's,
    and Ollama's where the guide says nothing. `context` 0 is the model's own; `temperature` 0 is
    greedy; the same `seed` gives the same text on the same machine.

    Args:
        on_text: gets the text piece by piece as it is written.
        log: llama.cpp's output is appended here; None keeps it only if something goes wrong.

    Raises:
        PipelineError: not a GGUF that llama.cpp can load, a prompt that is empty or longer than
            the context, or a crash.
    """
    if max_tokens < 1:
        raise PipelineError(f"The number of tokens to write must be 1 or more, not {max_tokens}.")
    pieces: list[str] = []

    def on_event(event: dict[str, Any]) -> None:
        if event["event"] == "text":
            pieces.append(event["text"])
            if on_text:
                on_text(event["text"])

    check_gguf(gguf)
    small = gguf.stat().st_size < SMALL_MODEL
    done = _ask(
        {
            "op": "complete",
            "gguf": _path(gguf),
            "prompt": prompt if isinstance(prompt, str) else list(prompt),
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "min_p": min_p,
            "repeat_penalty": repeat_penalty,
            "repeat_last_n": repeat_last_n,
            "seed": seed,
            "context": context,
            "stop": [text for text in stop if text],
            "threads": threads or thread_count(),
            "draw_threads": threads or (1 if small else thread_count()),
        },
        log=log,
        on_event=on_event,
    )
    return Completion(text="".join(pieces), **done)


@dataclass(frozen=True)
class Measured:
    """What a GGUF paid for windows, in nats, and what it said at the places asked about."""

    nats: float
    rows: "Rows"


def score(
    gguf: Path,
    windows: Sequence[Sequence[int]],
    log: Path | None,
    *,
    masks: Sequence[Sequence[bool] | None] | None = None,
    threads: int | None = None,
) -> float:
    """Total nats (natural-log loss) of a GGUF over windows of token ids.

    Each window is scored from an empty context; its first token is given and not scored. Where a
    window has a mask of its length, only those tokens are scored for which it is true. The same
    windows through the Hugging Face model give the figure to compare with.

    Raises:
        PipelineError: nothing to score, token ids that the model has not, or a crash.
    """
    return measure(gguf, windows, log, masks=masks, threads=threads).nats


def measure(
    gguf: Path,
    windows: Sequence[Sequence[int]],
    log: Path | None,
    *,
    masks: Sequence[Sequence[bool] | None] | None = None,
    places: Sequence[Sequence[int]] | None = None,
    reference: Path | None = None,
    record: Path | None = None,
    threads: int | None = None,
) -> Measured:
    """Score windows as `score` does, and look closely at some of their tokens.

    `places` are indices of tokens for each window, rising and above 0: what the model expects
    there is told in `rows`. With `reference` it is compared with the logits in that file; with
    `record` its logits are written into one, for others to be compared with.

    Raises:
        PipelineError: as `score`; or the reference is of another vocabulary or other places.
    """
    everything = zip(
        windows, masks or [None] * len(windows), places or [[]] * len(windows), strict=True
    )
    taken = [one for one in everything if len(one[0]) > 1]
    total = sum(len(window) - 1 if mask is None else sum(mask[1:]) for window, mask, _ in taken)
    if not total:
        raise PipelineError("There is no token to score: every window is shorter than two tokens.")
    check_gguf(gguf)
    from pipeline.export.logit_rows import Rows

    nats: list[float] = []
    rows = Rows()
    with progress(f"scoring {gguf.name}", total, "token") as advance:

        def on_event(event: dict[str, Any]) -> None:
            if event["event"] == "scored":
                advance(event["tokens"])
            elif event["event"] == "window":
                nats.append(event["nats"])
                rows.add(Rows(**event["rows"]))

        _ask(
            {
                "op": "score",
                "gguf": _path(gguf),
                "windows": [list(window) for window, _, _ in taken],
                "masks": [None if mask is None else list(mask) for _, mask, _ in taken],
                "places": [list(chosen) for _, _, chosen in taken],
                "reference": _path(reference) if reference else None,
                "record": _path(record) if record else None,
                "threads": threads or thread_count(),
            },
            log=log,
            on_event=on_event,
        )
    return Measured(sum(nats), rows)


def tokenize(
    gguf: Path, texts: Sequence[str], log: Path | None = None, *, special: bool = False
) -> list[list[int]]:
    """Token ids of texts by the GGUF's own tokenizer, without BOS or EOS.

    With `special`, text that spells a special token becomes that token.
    """
    check_gguf(gguf)
    request = {"op": "tokenize", "gguf": _path(gguf), "texts": list(texts), "special": special}
    tokens: list[list[int]] = _ask(request, log=log)["tokens"]
    return tokens


def info(gguf: Path, log: Path | None = None) -> dict[str, Any]:
    """What llama.cpp itself makes of a GGUF: description, parameters, bytes, trained_context,
    vocabulary, bos, eos, pad (-1: none), adds_bos, adds_eos, end_tokens (ids that end a text) and
    end_texts.
    """
    check_gguf(gguf)
    return _ask({"op": "info", "gguf": _path(gguf)}, log=log)


def quantize_file(source: Path, out: Path, ftype: int, log: Path, threads: int | None) -> None:
    """llama_model_quantize; `pipeline.export.gguf.quantize` is the checked way to call it."""
    request = {
        "op": "quantize",
        "source": _path(source),
        "out": _path(out),
        "ftype": ftype,
        "threads": threads or thread_count(),
    }
    _ask(request, log=log)


def thread_count() -> int:
    """How many threads llama.cpp should use: the physical cores that this process may run on.

    More than that makes it slower, and far slower in a container with a CPU quota.
    """
    import psutil  # type: ignore[import-untyped]

    usable = [psutil.cpu_count(logical=False), os.cpu_count()]
    if hasattr(os, "sched_getaffinity"):
        usable.append(len(os.sched_getaffinity(0)))
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.is_file():
        limit, period = quota.read_text().split()
        if limit != "max":
            usable.append(-(-int(limit) // int(period)))
    return max(1, min(filter(None, usable), default=1))


def _path(path: Path) -> str:
    return str(path.resolve())


def _ask(
    request: dict[str, Any],
    *,
    log: Path | None,
    on_event: Callable[[dict[str, Any]], None] | None = None,
    silence: float = SILENCE_LIMIT,
) -> dict[str, Any]:
    """Start a worker, give it the request, pass its events on; returns what "done" holds."""
    if find_spec("llama_cpp") is None:
        raise PipelineError(
            "The package llama-cpp-python is not installed.",
            "Install what this product needs: pip install -r requirements.txt",
        )
    answer: dict[str, Any] = {}
    with log_file(log) as sink:
        start = sink.stat().st_size if sink.exists() else 0

        def on_line(line: str) -> None:
            event = json.loads(line)
            kind = event["event"]
            if kind == "error":
                raise _refusal(event, sink, start)
            if kind == "done":
                answer.update(event)
            elif on_event:
                on_event(event)

        run_logged(
            python_module("pipeline.export.llama_worker"),
            what="llama.cpp",
            log=sink,
            request=json.dumps(request),
            on_line=on_line,
            silence=silence,
        )
    del answer["event"]
    return answer


def _refusal(event: dict[str, Any], log: Path, start: int) -> PipelineError:
    message: str = event["message"]
    if not event["logged"]:
        return PipelineError(f"{message[0].upper()}{message[1:]}.")
    why = reason(log, start)
    return PipelineError(f"llama.cpp: {message}: {why} (log: {log}).", way_out(why))
