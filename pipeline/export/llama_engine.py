"""The few calls of llama.cpp that this product needs, over llama-cpp-python's C bindings.

Only the worker process imports this: a fault in here kills the process. The high-level `Llama`
class is not used, because it keeps the logits of the whole context (201 MB for 1024 tokens of a
49,152-token vocabulary), reads special tokens out of users' text, and cannot switch off the extra
weight buffers that crash on CPUs with AMX.
"""

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

LOGITS_BYTES = 64 * 2**20  # upper bound of the logits held at once while scoring
BATCH = 512  # tokens given to one call of llama_decode


class EngineError(Exception):
    """Something cannot be done. With `logged`, llama.cpp's log tells more than the message."""

    def __init__(self, message: str, *, logged: bool = False) -> None:
        super().__init__(message)
        self.logged = logged


_DEBUG, _CONTINUED = 1, 5  # ggml_log_level in ggml.h
_last_level = 0


@llama_cpp.llama_log_callback
def _write_log(level: int, text: bytes, _: Any) -> None:
    """llama.cpp's log but for the debug lines (a dozen per tensor), unbuffered: it may crash."""
    global _last_level
    if level != _CONTINUED:
        _last_level = level
    if _last_level != _DEBUG:
        os.write(2, text)


def log_to_stderr() -> None:
    """Let llama.cpp write its log straight to the process's stderr."""
    llama_cpp.llama_log_set(_write_log, ctypes.c_void_p(0))


class Model:
    """A GGUF that llama.cpp has loaded: its tokenizer, and what its metadata says."""

    def __init__(self, path: Path, *, vocabulary_only: bool = False) -> None:
        parameters = llama_cpp.llama_model_default_params()
        # Repacked weights go through AMX where the CPU has it, and crash there.
        parameters.use_extra_bufts = False
        parameters.vocab_only = vocabulary_only
        self.handle: Any = llama_cpp.llama_model_load_from_file(bytes(path), parameters)
        if not self.handle:
            raise EngineError(f"{path} cannot be loaded", logged=True)
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.handle)
        self.vocabulary_size = llama_cpp.llama_vocab_n_tokens(self.vocabulary)

    @property
    def trained_context(self) -> int:
        """The longest context that the model was trained for, in tokens."""
        return int(llama_cpp.llama_model_n_ctx_train(self.handle))

    def info(self) -> dict[str, Any]:
        """What `pipeline.export.llama.info` returns, as plain values."""
        description = ctypes.create_string_buffer(256)
        llama_cpp.llama_model_desc(self.handle, description, len(description))
        ends = [token for token in range(self.vocabulary_size) if self.is_end(token)]
        return {
            "description": description.value.decode("utf-8", "replace"),
            "parameters": int(llama_cpp.llama_model_n_params(self.handle)),
            "bytes": int(llama_cpp.llama_model_size(self.handle)),
            "trained_context": self.trained_context,
            "vocabulary": self.vocabulary_size,
            "bos": llama_cpp.llama_vocab_bos(self.vocabulary),
            "eos": llama_cpp.llama_vocab_eos(self.vocabulary),
            "pad": llama_cpp.llama_vocab_pad(self.vocabulary),
            "adds_bos": bool(llama_cpp.llama_vocab_get_add_bos(self.vocabulary)),
            "adds_eos": bool(llama_cpp.llama_vocab_get_add_eos(self.vocabulary)),
            "end_tokens": ends,
            "end_texts": [self.token_text(token) for token in ends],
        }

    def tokenize(self, text: str, *, special: bool = False, bos: bool = False) -> list[int]:
        """Token ids of `text`.

        With `special` false, text that spells a special token stays text. With `bos` the model's
        BOS goes first if its metadata asks for one. An EOS is never added.
        """
        data = text.encode("utf-8")
        room = len(data) + 8
        tokens = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(
            self.vocabulary, data, len(data), tokens, room, False, special
        )
        if count < 0:
            raise EngineError(f"the prompt cannot be tokenized ({count})")
        start = []
        if bos and llama_cpp.llama_vocab_get_add_bos(self.vocabulary):
            start = [llama_cpp.llama_vocab_bos(self.vocabulary)]
        return start + list(tokens[:count])

    def piece(self, token: int) -> bytes:
        """The bytes of a token, perhaps only a part of a character; none for special tokens."""
        buffer = ctypes.create_string_buffer(64)
        size = llama_cpp.llama_token_to_piece(self.vocabulary, token, buffer, len(buffer), 0, False)
        if size < 0:
            buffer = ctypes.create_string_buffer(-size)
            size = llama_cpp.llama_token_to_piece(
                self.vocabulary, token, buffer, len(buffer), 0, False
            )
        return buffer.raw[:size]

    def token_text(self, token: int) -> str:
        """The name of a token in the vocabulary, special tokens included."""
        name: bytes = llama_cpp.llama_vocab_get_text(self.vocabulary, token)
        return name.decode("utf-8", "replace")

    def is_end(self, token: int) -> bool:
        """Whether the model ends a text with this token."""
        return bool(llama_cpp.llama_vocab_is_eog(self.vocabulary, token))


class Context:
    """A model with a key-value cache; a context manager.

    `threads` work on many tokens at once, `draw_threads` on one token at a time.
    """

    def __init__(
        self,
        model: Model,
        length: int,
        *,
        threads: int,
        draw_threads: int = 1,
        batch: int = BATCH,
        all_logits: bool,
    ) -> None:
        self.model = model
        self.length = length
        self.batch_size = batch
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = length
        parameters.n_batch = parameters.n_ubatch = batch
        parameters.n_threads_batch = threads
        parameters.n_threads = draw_threads
        parameters.n_outputs_max = parameters.n_outputs_max_per_seq = batch if all_logits else 1
        self.handle: Any = llama_cpp.llama_init_from_model(model.handle, parameters)
        if not self.handle:
            raise EngineError(f"a context of {length:,} tokens cannot be made", logged=True)
        self._batch = llama_cpp.llama_batch_init(batch, 0, 1)

    def __enter__(self) -> "Context":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self.handle)

    def clear(self) -> None:
        """Forget all tokens."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.handle), True)

    def decode(self, tokens: Sequence[int], position: int, *, all_logits: bool) -> None:
        """Run at most `batch_size` tokens that begin at `position`.

        Logits are kept for all of them, or for the last one only.
        """
        for i, token in enumerate(tokens):
            self._batch.token[i] = token
            self._batch.pos[i] = position + i
            self._batch.n_seq_id[i] = 1
            self._batch.seq_id[i][0] = 0
            self._batch.logits[i] = all_logits or i == len(tokens) - 1
        self._batch.n_tokens = len(tokens)
        status = llama_cpp.llama_decode(self.handle, self._batch)
        if status:
            raise EngineError(
                f"llama_decode failed ({status}) on tokens {position:,} to"
                f" {position + len(tokens):,}",
                logged=True,
            )

    def logits(self, rows: int) -> npt.NDArray[np.float32]:
        """A view of the last call's logits, shape (rows, vocabulary); the next call changes it."""
        pointer = llama_cpp.llama_get_logits(self.handle)
        return np.ctypeslib.as_array(pointer, shape=(rows, self.model.vocabulary_size))


class Sampler:
    """Ollama's chain: repeat penalty, top-k, top-p, min-p, temperature, then a draw by seed.

    `length` is that of the context, which is how far a `repeat_last_n` of -1 looks back.
    """

    def __init__(self, model: Model, settings: dict[str, Any], length: int) -> None:
        self.handle: Any = llama_cpp.llama_sampler_chain_init(
            llama_cpp.llama_sampler_chain_default_params()
        )
        temperature = settings["temperature"]
        last_n, penalty = settings["repeat_last_n"], settings["repeat_penalty"]
        last_n = last_n if last_n >= 0 else length  # llama.cpp takes -1 for none
        self._add(
            llama_cpp.llama_sampler_init_penalties(model.vocabulary_size, last_n, penalty, 0.0, 0.0)
        )
        if temperature <= 0:
            self._add(llama_cpp.llama_sampler_init_greedy())
            return
        self._add(llama_cpp.llama_sampler_init_top_k(settings["top_k"]))
        self._add(llama_cpp.llama_sampler_init_top_p(settings["top_p"], 1))
        self._add(llama_cpp.llama_sampler_init_min_p(settings["min_p"], 1))
        self._add(llama_cpp.llama_sampler_init_temp(temperature))
        self._add(llama_cpp.llama_sampler_init_dist(settings["seed"] % 2**32))

    def free(self) -> None:
        """Give its memory back."""
        llama_cpp.llama_sampler_free(self.handle)

    def _add(self, sampler: Any) -> None:
        llama_cpp.llama_sampler_chain_add(self.handle, sampler)

    def accept(self, tokens: Sequence[int]) -> None:
        """Tell the repeat penalty about tokens that were not drawn: the prompt."""
        for token in tokens:
            llama_cpp.llama_sampler_accept(self.handle, token)

    def draw(self, context: Context) -> int:
        """The next token, from the logits of the last call."""
        return int(llama_cpp.llama_sampler_sample(self.handle, context.handle, -1))


def feed(context: Context, tokens: Sequence[int]) -> None:
    """Run a prompt from an empty context; the logits that follow its last token are kept."""
    context.clear()
    for start in range(0, len(tokens), context.batch_size):
        context.decode(tokens[start : start + context.batch_size], start, all_logits=False)


def draw_tokens(context: Context, prompt: Sequence[int], sampler: Sampler) -> Iterator[int]:
    """Draw token after token until the context is full. End tokens are drawn like any other."""
    feed(context, prompt)
    sampler.accept(prompt)
    for position in range(len(prompt), context.length + 1):
        token = sampler.draw(context)
        yield token
        if position < context.length:
            context.decode([token], position, all_logits=False)


def scoring_batch(model: Model) -> int:
    """How many tokens to decode at once, so that their logits stay under LOGITS_BYTES."""
    return max(32, min(BATCH, LOGITS_BYTES // (4 * model.vocabulary_size)))


def window_nats(
    context: Context,
    window: Sequence[int],
    mask: Sequence[bool] | None = None,
    watch: Callable[[int, npt.NDArray[np.float32]], object] = lambda at, logits: None,
) -> Iterator[tuple[float, int]]:
    """Score one window from an empty context, batch by batch.

    Yields (nats, tokens scored): the negative log-likelihood of each token but the first, and of
    those only for which `mask` is true. `watch` sees all logits before they are gone: row i of
    what it is given is about the token at + i + 1 of the window.
    """
    context.clear()
    counts = np.ones(len(window), bool) if mask is None else np.asarray(mask, bool)
    for start in range(0, len(window) - 1, context.batch_size):
        tokens = window[start : min(start + context.batch_size, len(window) - 1)]
        context.decode(tokens, start, all_logits=True)
        targets = np.asarray(window[start + 1 : start + 1 + len(tokens)])
        count = counts[start + 1 : start + 1 + len(tokens)]
        logits = context.logits(len(tokens))
        watch(start, logits)
        yield _nats(logits[count], targets[count]), int(count.sum())


def _nats(logits: npt.NDArray[np.float32], targets: npt.NDArray[np.int64]) -> float:
    """Sum of -log softmax(logits)[target]; row by row in float64, so that memory stays small."""
    total = 0.0
    for row, target in zip(logits, targets, strict=True):
        wide = row.astype(np.float64)
        top = wide.max()
        total += top + float(np.log(np.exp(wide - top).sum())) - wide[target]
    return float(total)


def quantize(source: Path, out: Path, ftype: int, threads: int) -> None:
    """Write `source` to `out` as llama.cpp's file type `ftype`."""
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = ftype
    parameters.nthread = threads
    # All that comes in here was converted to 16 bits first; the q8_0 of a q8_0 is a mistake.
    parameters.allow_requantize = False
    status = llama_cpp.llama_model_quantize(bytes(source), bytes(out), ctypes.byref(parameters))
    if status:
        raise EngineError(f"{source} cannot be quantized", logged=True)
