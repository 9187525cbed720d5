"""Bits per byte on held-out text: one measure for a base model, an adapter, and any GGUF.

The loss per token cannot be compared between models whose tokenizers differ, the bits that a
model needs per byte of the text can. A score is a sum of nats over predicted tokens, divided by
the UTF-8 bytes of exactly these tokens' text:

    bits per byte = nats / ln 2 / bytes

Documents are cut into windows that overlap by one token, so that every token is predicted exactly
once, except a document's first, which nothing precedes (with a tokenizer that adds BOS the first
is predicted too). End tokens are not scored: they are no bytes of the text. Windows are plain
lists of ids, so that whatever runs a model elsewhere (llama.cpp) is scored on the same ones.

Of a prompt with its completion, or of a chat, only what the model has to write is scored: a mask
says which tokens that are. The others are context.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

WINDOW_TOKENS = 1024  # the same for every run, so that scores of different runs can be compared
EVAL_TOKENS = 8192
MINIMUM_SHARE = 256  # tokens of a document below which its start says little about it
LOGIT_ROWS = 256  # rows of logits turned into float32 at a time: 50 MB at a vocabulary of 49152


class HasText(Protocol):
    """A document, as far as this module is concerned."""

    @property
    def id(self) -> str: ...

    @property
    def text(self) -> str: ...


@dataclass(frozen=True)
class Window:
    """Some consecutive tokens of one document: the first is context, the others are predicted.

    `n_bytes` are the UTF-8 bytes of the predicted tokens' text. With a `mask`, of the length of
    `ids`, only those tokens count for which it is true. Of a record that is cut into several
    windows each has its share of the bytes; their sum is exact.
    """

    document: str
    ids: list[int]
    n_bytes: int
    mask: list[bool] | None = None

    @property
    def predicted(self) -> int:
        """How many tokens of this window are predicted."""
        return len(self.ids) - 1 if self.mask is None else sum(self.mask[1:])


@dataclass(frozen=True)
class Score:
    """What a model paid for the windows, in nats, over `tokens` predictions and `n_bytes` bytes."""

    nats: float
    tokens: int
    n_bytes: int

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float | None:
        """Per token; None where it exceeds what a float can hold."""
        return math.exp(self.loss) if self.loss < 700 else None

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte of text."""
        return bits_per_byte(self.nats, self.n_bytes)


def bits_per_byte(nats: float, n_bytes: int) -> float:
    """Bits per byte of text that cost `nats` in all.

    Raises:
        PipelineError: there is no text, or the cost is not a number. Never 0.0 for "nothing".
    """
    if n_bytes <= 0:
        raise PipelineError("There is no held-out text to score.", "Hold out at least one book.")
    if not math.isfinite(nats):
        raise PipelineError(
            f"The model's loss on the held-out text is {nats}.",
            "Its weights are broken: try a lower --learning-rate, or another base model.",
        )
    return nats / math.log(2) / n_bytes


def windows(
    tokenizer: "PreTrainedTokenizerBase",
    documents: Sequence[HasText],
    *,
    length: int = WINDOW_TOKENS,
    max_tokens: int = EVAL_TOKENS,
    least: int = MINIMUM_SHARE,
) -> list[Window]:
    """Cut the starts of the documents into windows of `length` tokens, `max_tokens` in all.

    Every document gives an equal share; what a short one cannot give, the others do. Where shares
    would fall below `least` tokens, documents are left out, evenly over the list.

    Raises:
        PipelineError: the documents hold no text, or the tokenizer cannot tell where tokens lie.
    """
    chosen = evenly([d for d in documents if d.text], max(1, max_tokens // least))
    spell = Spelling(tokenizer)
    spelled = [spell(document.id, document.text) for document in chosen]
    shares = even_shares([len(s.ids) - 1 for s in spelled], max_tokens)
    found = [w for s, share in zip(spelled, shares, strict=True) for w in s.cut(share, length)]
    if not found:
        raise PipelineError(
            "There is no held-out text to score.",
            "The validation split is empty or has no text: hold out at least one book.",
        )
    return found


def score_model(
    model: Any,
    held_out: Sequence[Window],
    *,
    autocast: "torch.dtype | None" = None,
    on_window: Callable[[int], object] = lambda n: None,
) -> Score:
    """What a causal language model of transformers (with or without adapter) pays for windows.

    Takes and raises what `nats_of` does.
    """
    nats = nats_of(model, held_out, autocast=autocast, on_window=on_window)
    return total(held_out, nats)


def nats_of(
    model: Any,
    held_out: Sequence[Window],
    *,
    autocast: "torch.dtype | None" = None,
    on_window: Callable[[int], object] = lambda n: None,
) -> list[float]:
    """What a causal language model of transformers pays for each window, in nats.

    Windows go through the model one by one: on a CPU several at once are no faster.

    Args:
        model: called as `model(input_ids=..., use_cache=False).logits`, of (1, tokens, vocabulary).
        held_out: from `windows`.
        autocast: compute in this type; None leaves it to the model.
        on_window: called with the number of tokens after each window, for a progress bar.
    """
    import torch

    device = next(model.parameters()).device
    found = []
    with evaluating(model), torch.no_grad():
        for window in held_out:
            ids = torch.tensor([window.ids], device=device)
            with torch.autocast(device.type, autocast, enabled=autocast is not None):
                logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
            targets = ids[0, 1:]
            if window.mask is not None:
                counts = torch.tensor(window.mask[1:], device=logits.device)
                logits, targets = logits[counts], targets.to(logits.device)[counts]
            found.append(_cross_entropy(logits, targets.to(logits.device)))
            on_window(window.predicted)
    return found


def total(held_out: Sequence[Window], nats: Sequence[float]) -> Score:
    """The score over windows for which a model paid `nats` each.

    Raises:
        PipelineError: no windows, or a loss that is no finite number.
    """
    score = Score(
        sum(nats, 0.0), sum(w.predicted for w in held_out), sum(w.n_bytes for w in held_out)
    )
    bits_per_byte(score.nats, score.n_bytes)  # no score at all, or not a number, stops here
    return score


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """The model without dropout; afterwards each of its parts is in the mode that it was in."""
    trained = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in trained:
            module.training = True


def save_windows(path: Path, held_out: Sequence[Window]) -> None:
    """Write windows as JSON, for whatever scores another form of the model later."""
    rows = [{k: v for k, v in asdict(w).items() if v is not None} for w in held_out]
    path.write_text(json.dumps(rows) + "\n", encoding="utf-8")


def load_windows(path: Path) -> list[Window]:
    """Read what `save_windows` wrote. Raises PipelineError if it is anything else."""
    try:
        found = [Window(**row) for row in json.loads(path.read_text("utf-8"))]
        is_sound = all(map(_is_sound, found))
    except FileNotFoundError as error:
        raise PipelineError(f"{path} is not there.", "Run `pipeline train` again.") from error
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise PipelineError(f"{path} is damaged.", "Run `pipeline train` again.") from error
    if not is_sound:
        raise PipelineError(f"{path} is damaged: it holds no windows of tokens.")
    return found


def _is_sound(window: Window) -> bool:
    mask = window.mask
    return (
        isinstance(window.document, str)
        and isinstance(window.ids, list)
        and all(type(token) is int and token >= 0 for token in window.ids)
        and type(window.n_bytes) is int
        and (mask is None or (isinstance(mask, list) and len(mask) == len(window.ids)))
    )


def _cross_entropy(logits: "torch.Tensor", targets: "torch.Tensor") -> float:
    """Summed cross entropy in nats of (tokens, vocabulary) logits, in float32 or better."""
    import torch.nn.functional as F

    parts = zip(logits.split(LOGIT_ROWS), targets.split(LOGIT_ROWS), strict=True)
    return sum(F.cross_entropy(x.float(), y, reduction="sum").double().item() for x, y in parts)


@dataclass(frozen=True)
class Spelled:
    """A document's ids, and for each id the bytes of text that lie before its end."""

    document: str
    ids: list[int]
    byte_ends: list[int]
    splits_character: list[bool]  # the next token continues the same character

    def cut(self, share: int, length: int) -> list[Window]:
        """Windows over the first `share` predicted tokens (or a little less: whole characters)."""
        last = min(share, len(self.ids) - 1)
        while last > 0 and self.splits_character[last]:
            last -= 1
        return [
            Window(
                self.document,
                self.ids[start : end + 1],
                self.byte_ends[end] - self.byte_ends[start],
            )
            for start in range(0, last, length - 1)
            for end in [min(start + length - 1, last)]
        ]


class Spelling:
    """Spells texts with a tokenizer that adds nothing between them but what goes before each.

    Raises:
        PipelineError: the tokenizer cannot tell where tokens lie.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        from tokenizers import Tokenizer, processors

        if not tokenizer.is_fast:
            raise PipelineError(
                f"The tokenizer in {tokenizer.name_or_path} has no tokenizer.json.",
                "Scores need it, to know which bytes a token stands for.",
            )
        # A copy that adds nothing and trims no blanks off the positions, whatever the original
        # does.
        self._backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._backend.post_processor = processors.Sequence([])
        self._backend.encode_special_tokens = True
        self._backend.no_truncation()
        self._backend.no_padding()
        start = tokenizer("a", return_special_tokens_mask=True)
        self.prefix: list[int] = start["input_ids"][: start["special_tokens_mask"].index(0)]

    def __call__(self, name: str, text: str) -> Spelled:
        """A document's ids, as a model is given them, with where each lies in its text."""
        encoding = self._backend.encode(text, add_special_tokens=False)
        prefix = self.prefix
        ends = _byte_positions(text, [end for _, end in encoding.offsets])
        starts_of_next = [*(begin for begin, _ in encoding.offsets[1:]), len(text)]
        splits = [
            begin < end for begin, (_, end) in zip(starts_of_next, encoding.offsets, strict=True)
        ]
        return Spelled(
            name,
            [*prefix, *encoding.ids],
            [0] * len(prefix) + ends,
            [False] * len(prefix) + splits,
        )

    def plain(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of texts and nothing else."""
        found = self._backend.encode_batch(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in found]


def _byte_positions(text: str, characters: Sequence[int]) -> list[int]:
    """UTF-8 bytes before each of these non-decreasing character positions."""
    positions, done, n_bytes = [], 0, 0
    for character in characters:
        if character > done:
            n_bytes += len(text[done:character].encode("utf-8", "surrogatepass"))
            done = character
        positions.append(n_bytes)
    return positions


def evenly(documents: Sequence[HasText], at_most: int) -> list[HasText]:
    """At most so many documents, taken at even distances."""
    if len(documents) <= at_most:
        return list(documents)
    return [documents[i * len(documents) // at_most] for i in range(at_most)]


def even_shares(available: Sequence[int], total: int) -> list[int]:
    """Split `total` evenly over what is available; what one cannot give, the others do."""
    shares = [0] * len(available)
    left = total
    by_size = sorted(range(len(available)), key=lambda i: available[i])
    for rank, i in enumerate(by_size):
        shares[i] = max(0, min(available[i], left // (len(by_size) - rank)))
        left -= shares[i]
    return shares
