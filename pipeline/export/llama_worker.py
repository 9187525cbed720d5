"""The process in which llama.cpp runs: `python -m pipeline.export.llama_worker`.

One request, a JSON object on one line of stdin, is answered by JSON objects on lines of stdout:
any number of events, then one with `"event": "done"` or `"event": "error"`. Everything that
llama.cpp itself prints goes to stderr, which the parent (`pipeline.export.llama`) makes the log.
"""

import codecs
import faulthandler
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pipeline.export.llama_engine import (
    Context,
    EngineError,
    Model,
    Sampler,
    draw_tokens,
    log_to_stderr,
    quantize,
    scoring_batch,
    window_nats,
)
from pipeline.export.logit_rows import RowFile, Rows
from pipeline.export.parent import follow_parent

Emit = Callable[..., None]
Request = dict[str, Any]


def main() -> int:
    """Read the request, do it, answer. 0 when done, 1 when refused; a crash ends it otherwise."""
    faulthandler.enable()
    # llama.cpp may print to stdout; only we may speak to the parent.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def emit(event: str, **values: Any) -> None:
        answers.write(json.dumps({"event": event, **values}) + "\n")
        answers.flush()

    request: Request = json.loads(follow_parent())

    log_to_stderr()
    try:
        emit("done", **OPERATIONS[request["op"]](request, emit))
    except EngineError as error:
        emit("error", message=str(error), logged=error.logged)
        return 1
    return 0


def _info(request: Request, emit: Emit) -> dict[str, Any]:
    return Model(Path(request["gguf"])).info()


def _tokenize(request: Request, emit: Emit) -> dict[str, Any]:
    model = Model(Path(request["gguf"]), vocabulary_only=True)
    special = request["special"]
    return {"tokens": [model.tokenize(text, special=special) for text in request["texts"]]}


def _quantize(request: Request, emit: Emit) -> dict[str, Any]:
    source, out = Path(request["source"]), Path(request["out"])
    quantize(source, out, request["ftype"], request["threads"])
    return {}


def _score(request: Request, emit: Emit) -> dict[str, Any]:
    model = Model(Path(request["gguf"]))
    windows: list[list[int]] = request["windows"]
    masks: list[list[bool] | None] = request["masks"]
    for window in windows:
        _check_tokens(model, window, "the windows hold")
    length = max(map(len, windows))
    batch = scoring_batch(model)
    with (
        Context(model, length, threads=request["threads"], batch=batch, all_logits=True) as context,
        _row_file(request) as file,
    ):
        for window, mask, places in zip(windows, masks, request["places"], strict=True):
            total, rows = 0.0, Rows()
            watch = _watch(file, window, places, rows)
            for nats, tokens in window_nats(context, window, mask, watch):
                total += nats
                emit("scored", tokens=tokens)
            emit("window", nats=total, rows=rows.as_dict())
    return {}


def _row_file(request: Request) -> RowFile:
    if request["reference"]:
        return RowFile(Path(request["reference"]), compare=True)
    if request["record"]:
        return RowFile(Path(request["record"]), write=True)
    return RowFile(None)


def _watch(
    file: RowFile, window: list[int], places: list[int], rows: Rows
) -> Callable[[int, Any], None]:
    def watch(start: int, logits: Any) -> None:
        mine = [place for place in places if start < place <= start + len(logits)]
        chosen = [logits[place - start - 1] for place in mine]
        try:
            rows.add(file.take(chosen, [window[place] for place in mine]))
        except ValueError as error:
            raise EngineError(f"the model cannot be compared: {error}") from error

    return watch


def _check_tokens(model: Model, tokens: list[int], what: str) -> None:
    if not all(0 <= token < model.vocabulary_size for token in tokens):
        raise EngineError(
            f"{what} token ids outside the model's vocabulary of"
            f" {model.vocabulary_size:,}: another tokenizer made them"
        )


def _complete(request: Request, emit: Emit) -> dict[str, Any]:
    model = Model(Path(request["gguf"]))
    prompt = request["prompt"]
    if isinstance(prompt, str):
        prompt = model.tokenize(prompt, bos=True)
    _check_tokens(model, prompt, "the prompt holds")
    limit = request["context"] or model.trained_context
    if not prompt:
        raise EngineError("the prompt is empty, and this model has no token that begins a text")
    if len(prompt) > limit:
        raise EngineError(f"the prompt has {len(prompt):,} tokens, the context only {limit:,}")
    # A long context costs memory (16 GB for the 131,072 tokens of an 8B model): take what is used.
    length = min(limit, len(prompt) + request["max_tokens"])

    answer = Answer(model, request["max_tokens"])
    started = time.monotonic()
    with Context(
        model,
        length,
        threads=request["threads"],
        draw_threads=request["draw_threads"],
        all_logits=False,
    ) as context:
        drawn = draw_tokens(context, prompt, Sampler(model, request, length))
        for text, stopped in until_stop(answer.pieces(drawn), request["stop"]):
            if text:
                emit("text", text=text)
            if stopped:
                answer.finish = "stop"
    return {
        "finish": answer.finish,
        "tokens": answer.tokens,
        "seconds": time.monotonic() - answer.began,
        "prompt_tokens": len(prompt),
        "prompt_seconds": answer.began - started,
    }


class Answer:
    """Counts the tokens of a completion, and knows how it ended."""

    def __init__(self, model: Model, limit: int) -> None:
        self.model = model
        self.limit = limit
        self.tokens = 0
        self.finish = "length"
        self.began = time.monotonic()  # when the prompt had been read

    def pieces(self, tokens: Iterator[int]) -> Iterator[bytes]:
        """The bytes of each token, until an end token or the limit."""
        for token in itertools.islice(tokens, self.limit):
            if self.tokens == 0:
                self.began = time.monotonic()
            self.tokens += 1
            if self.model.is_end(token):
                self.finish = "stop"
                return
            yield self.model.piece(token)


def until_stop(pieces: Iterable[bytes], stops: list[str]) -> Iterator[tuple[str, bool]]:
    """Turn bytes into text, up to the first stop string, which is left out.

    Yields (text, stopped). Text that may be the beginning of a stop string, and bytes that are
    not yet a whole character, are held back until it is known what they are.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    held = ""
    for piece in pieces:
        held += decoder.decode(piece)
        found = [at for at in (held.find(stop) for stop in stops) if at >= 0]
        if found:
            yield held[: min(found)], True
            return
        keep = max((_overlap(held, stop) for stop in stops), default=0)
        yield held[: len(held) - keep], False
        held = held[len(held) - keep :]
    yield held + decoder.decode(b"", final=True), False


def _overlap(text: str, stop: str) -> int:
    """The length of the longest proper beginning of `stop` that `text` ends with."""
    return next((n for n in range(len(stop) - 1, 0, -1) if text.endswith(stop[:n])), 0)


OPERATIONS: dict[str, Callable[[Request, Emit], dict[str, Any]]] = {
    "complete": _complete,
    "info": _info,
    "quantize": _quantize,
    "score": _score,
    "tokenize": _tokenize,
}

if __name__ == "__main__":
    sys.exit(main())
