"""The process in which a GGUF is asked many times: `python -m pipeline.export.session_worker`.

The model is loaded once. Each request bears a number, and so do the events that answer it; one
that is told to stop is done with what it has written.
"""

import codecs
import os
import sys
import time
from collections.abc import Callable, Container, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import llama_cpp

from pipeline.export.conversation import Emit, Request, Requests, open_answers
from pipeline.export.llama_engine import Context, EngineError, Model, Sampler, log_to_stderr
from pipeline.scoring.sampling import StopFinder

_MARK = "\ue000prompt\ue001"  # characters for private use, where a prompt goes in a template


def main() -> int:
    """Answer requests until stdin closes. A crash ends it earlier."""
    emit = open_answers()
    log_to_stderr()
    requests = Requests(on_end=lambda: os._exit(0))
    model: Model | None = None
    while True:
        request = requests.next()
        number = request["number"]
        try:
            if model is None:
                model = Model(Path(request["gguf"]))
                done = model.info() | {"chat_template": chat_template(model)}
            else:
                done = write(model, request, emit, requests.stopped)
            emit("done", number=number, **done)
        except EngineError as error:
            emit("error", number=number, message=str(error), logged=error.logged)


def write(model: Model, request: Request, emit: Emit, stopped: Container[int]) -> dict[str, Any]:
    """Go on from a prompt; what was written is sent piece by piece.

    It ends early once the request's number is among the `stopped`.
    """
    how = request["sampling"]
    prompt = prompt_tokens(model, request)
    length = _length(model, request, len(prompt))
    limit = min(how["max_tokens"], length - len(prompt))
    started = first = last = time.perf_counter()
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    finder = StopFinder(how["stop"])
    tokens, finish = 0, "length"

    def is_stopped() -> bool:
        return request["number"] in stopped

    def show(text: str) -> None:
        if text:
            emit("text", number=request["number"], text=text)

    with Context(
        model, length, threads=request["threads"], draw_threads=request["draw_threads"],
        all_logits=False,
    ) as context:  # fmt: skip
        for token in islice(drawn(context, prompt, Sampler(model, how, length), is_stopped), limit):
            last = time.perf_counter()
            tokens += 1
            first = last if tokens == 1 else first
            if model.is_end(token) and not request["ignore_end"]:
                finish = "stop"
                break
            show(finder.add(decoder.decode(model.piece(token))))
            if finder.stopped:
                finish = "stop"
                break
    show(finder.add(decoder.decode(b"", final=True)))
    show(finder.end())
    return {
        "tokens": tokens, "seconds": last - first, "finish": finish,
        "prompt_tokens": len(prompt), "prompt_seconds": first - started,
    }  # fmt: skip


def _length(model: Model, request: Request, prompt: int) -> int:
    """The context that is made: only as long as is used, since a long one takes gigabytes."""
    limit: int = request["context"] or model.trained_context
    if not prompt:
        raise EngineError("the prompt is empty, and this model has no token that begins a text")
    if prompt >= limit:
        raise EngineError(f"the prompt has {prompt:,} tokens, and this model sees only {limit:,}")
    return min(limit, prompt + int(request["sampling"]["max_tokens"]))


def drawn(
    context: Context, prompt: Sequence[int], chain: Sampler, is_stopped: Callable[[], bool]
) -> Iterator[int]:
    """Read the prompt, then draw token after token until the context is full or it is stopped."""
    try:
        for start in range(0, len(prompt), context.batch_size):
            if is_stopped():
                return
            batch = prompt[start : start + context.batch_size]
            context.decode(batch, start, all_logits=False)
        chain.accept(prompt)
        for position in range(len(prompt), context.length):
            token = chain.draw(context)
            yield token
            if is_stopped():
                return
            context.decode([token], position, all_logits=False)
    finally:
        chain.free()


# --- prompts ------------------------------------------------------------------------------------


def prompt_tokens(model: Model, request: Request) -> list[int]:
    """The prompt as text that is gone on from, or as the first turn of a chat."""
    prompt: str = request["prompt"]
    if not request["chat"]:
        return model.tokenize(prompt, bos=True)
    template = request["template"] or chat_template(model)
    if template is None:
        raise EngineError("this GGUF has no chat template")
    # A prompt that spells a special token is to fake no turn; any other is best tokenized in one
    # go with what stands around it, as it was in training.
    if model.tokenize(prompt, special=True) == model.tokenize(prompt):
        return model.tokenize(_rendered(model, template, prompt), special=True)
    before, _, after = _rendered(model, template, _MARK).partition(_MARK)
    return [
        *model.tokenize(before, special=True),
        *model.tokenize(prompt),
        *model.tokenize(after, special=True),
    ]


def chat_template(model: Model) -> str | None:
    """The chat template in the GGUF, in Jinja."""
    template: bytes | None = llama_cpp.llama_model_chat_template(model.handle, None)
    return template.decode("utf-8", "replace") if template else None


def _rendered(model: Model, template: str, content: str) -> str:
    from jinja2 import TemplateError
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    def name(token: int) -> str:
        return model.token_text(token) if token >= 0 else ""

    try:
        formatter = Jinja2ChatFormatter(
            template,
            eos_token=name(llama_cpp.llama_vocab_eos(model.vocabulary)),
            bos_token=name(llama_cpp.llama_vocab_bos(model.vocabulary)),
        )
        return str(formatter(messages=[{"role": "user", "content": content}]).prompt)
    # A template is a program: it raises what it likes.
    except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise EngineError(f"the chat template does not take a prompt: {reason}") from error


if __name__ == "__main__":
    sys.exit(main())
