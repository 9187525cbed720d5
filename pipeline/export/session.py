"""A GGUF that is loaded once and asked many times, in a process of its own.

with open_session(gguf) as session:
    answer = session.write("It was late", Sampling(), on_text=print)
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.export.child import Child, open_child
from pipeline.export.header import check_gguf
from pipeline.export.llama import SMALL_MODEL, thread_count
from pipeline.export.process import log_file, python_module, reason, way_out
from pipeline.scoring.sampling import Answer, Sampling


class Session:
    """See `open_session`. `info` is what llama.cpp makes of the GGUF; see `llama.info`."""

    def __init__(self, child: Child, gguf: Path, log: Path, threads: int | None) -> None:
        self._child, self._gguf, self._log = child, gguf, log
        self._number = 0
        small = gguf.stat().st_size < SMALL_MODEL
        self._threads = threads or thread_count()
        # See llama.SMALL_MODEL: one thread draws faster where the model is small.
        self._draw_threads = threads or (1 if small else thread_count())
        self.info = self._ask(gguf=str(gguf.resolve()))

    @property
    def chat_template(self) -> str | None:
        """The chat template in the GGUF; None for a model of plain text."""
        template: str | None = self.info["chat_template"]
        return template

    def write(
        self,
        prompt: str,
        sampling: Sampling,
        *,
        chat: bool = False,
        template: str | None = None,
        context: int = 0,
        ignore_end: bool = False,
        on_text: Callable[[str], object] = lambda text: None,
    ) -> Answer:
        """Let the model go on from `prompt`, which is text and nothing else: what looks like a
        special token in it is spelled out.

        Args:
            chat: `prompt` is the first turn of a chat, in `template` or the GGUF's own.
            context: tokens that the model sees; 0 is what it was trained for.
            ignore_end: write `max_tokens` whatever happens, to measure speed.
            on_text: gets the text piece by piece, whole characters only.

        Raises:
            PipelineError: an empty or too long prompt, no template, or a crash.
            KeyboardInterrupt: passed on; the session can be asked again.
        """
        pieces: list[str] = []

        def take(text: str) -> None:
            pieces.append(text)
            on_text(text)

        done = self._ask(
            prompt=prompt, sampling=sampling.as_dict(), chat=chat, template=template,
            context=context, ignore_end=ignore_end, threads=self._threads,
            draw_threads=self._draw_threads, on_text=take,
        )  # fmt: skip
        return Answer(text="".join(pieces), **done)

    def _ask(
        self, on_text: Callable[[str], object] = lambda text: None, **request: Any
    ) -> dict[str, Any]:
        self._number += 1
        self._child.send(op="ask", number=self._number, **request)
        try:
            return self._answer(on_text)
        except BaseException:  # Ctrl-C, or whatever `on_text` ends it with
            self._child.send(op="stop", number=self._number)
            raise

    def _answer(self, on_text: Callable[[str], object]) -> dict[str, Any]:
        while True:
            event = self._child.receive()
            kind, number = event.pop("event"), event.pop("number")
            if number != self._number:  # the rest of an answer that was stopped
                continue
            if kind == "done":
                return event
            if kind == "error":
                raise self._refusal(event)
            on_text(event["text"])

    def _refusal(self, event: dict[str, Any]) -> PipelineError:
        message: str = event["message"]
        if not event["logged"]:
            return PipelineError(f"{self._gguf.name}: {message}.")
        why = reason(self._log, self._child.log_start)
        return PipelineError(f"llama.cpp: {message}: {why} (log: {self._log}).", way_out(why))


@contextmanager
def open_session(
    gguf: Path, *, threads: int | None = None, log: Path | None = None
) -> Iterator[Session]:
    """Load a GGUF; it is unloaded afterwards.

    `log` gets what llama.cpp prints; None keeps that only if something goes wrong.

    Raises PipelineError if it is not one that llama.cpp can load.
    """
    check_gguf(gguf)
    command = python_module("pipeline.export.session_worker")
    with log_file(log) as sink, open_child(command, "llama.cpp", sink) as child:
        yield Session(child, gguf, sink, threads)
