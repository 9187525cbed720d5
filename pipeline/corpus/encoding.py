"""Documents, completions and chats as token ids, and which of these tokens are trained on.

    encoder = Encoder(tokenizer)
    fit(encoder.encode({"prompt": "2 + 2 =", "completion": " 4"}), length=1024, policy="drop")

Ids are those that a model will meet: where it has to go on from a prompt, the prompt is encoded
alone, as it is when the model is asked, and what follows is encoded as a continuation. A token
that straddles the border, half prompt and half answer, can therefore not come about; the price is
that a completion which begins in mid-word is spelled in other tokens than the same text in a book.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pipeline.corpus.tokens import block_spans, end_id, plain_ids, prefix_ids
from pipeline.corpus.turns import ChatTemplate, Messages, choose_template, special_tokens
from pipeline.errors import PipelineError, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Overlong = Literal["drop", "truncate", "split"]
OVERLONG = ("drop", "truncate", "split")

# Why tokens are not trained on; `Fit.dropped` counts them by these.
TOO_LONG = "in records longer than a sequence"
CUT_OFF = "cut off the ends of long records"
UNTRAINED = "in pieces without a token to train on"

# Texts whose tokens do not merge with most others: a continuation is encoded after one of them.
_ANCHORS = ("\n", "\x01", "0", ".", "x", "\u4e00")

_After = Literal["nothing", "token", "text"]


@dataclass(frozen=True)
class Encoded:
    """Token ids, and for each whether it has to be predicted (None: all but the first)."""

    ids: list[int]
    trained: list[bool] | None = None

    def mask(self) -> list[bool]:
        """`trained`, spelled out."""
        return [i > 0 for i in range(len(self.ids))] if self.trained is None else self.trained

    @property
    def predicted(self) -> int:
        """How many tokens are trained on."""
        return max(0, len(self.ids) - 1) if self.trained is None else sum(self.trained)


class Encoder:
    """Encodes with one tokenizer; finds out once what that tokenizer does.

    `template` is a chat template in Jinja, "plain", or None for the tokenizer's own if it has one.

    Raises PipelineError if the tokenizer has no end token.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", template: str | None = None) -> None:
        self._tokenizer = tokenizer
        self._wanted_template = template
        self._template: ChatTemplate | None = None
        self._prefix = prefix_ids(tokenizer)
        self._end = end_id(tokenizer)
        self._special = special_tokens(tokenizer)
        added = tokenizer.added_tokens_decoder.items()
        self._ids = {token.content: int(i) for i, token in added}
        # Tokenizers in the manner of sentencepiece begin every text with a space of their own, and
        # some of them the text after a special token too.
        self._adds_space = self._plain("a") != self._after_anchor("a")
        spelled = tokenizer(f"{tokenizer.eos_token}a", add_special_tokens=False, verbose=False)
        self._token_begins_text = list(spelled["input_ids"])[1:] == self._plain("a")
        self._breakable: re.Pattern[str] | None = None

    def encode(self, example: Mapping[str, Any]) -> Encoded:
        """An example as {"text"}, {"prompt", "completion"} or {"messages"}.

        Raises PipelineError where its chat template does not serve, or it is none of these.
        """
        if "messages" in example:
            return self.chat(example["messages"])
        if "completion" in example:
            return self.completion(example["prompt"], example["completion"])
        if "text" in example:
            return self.document(example["text"])
        raise PipelineError("An example has neither text nor completion nor messages.")

    def document(self, text: str) -> Encoded:
        """`[BOS] text [EOS]`, all of it trained on."""
        return Encoded([*self._prefix, *self._plain(text), self._end])

    def completion(self, prompt: str, completion: str) -> Encoded:
        """`[BOS] prompt completion [EOS]`, with the completion and the EOS trained on."""
        context = [*self._prefix, *self._plain(prompt)]
        answer = self._text(completion, "text" if prompt else "nothing")
        trained = [False] * len(context) + [True] * (len(answer) + 1)
        trained[0] = False  # nothing precedes it
        return Encoded([*context, *answer, self._end], trained)

    def chat(self, messages: Messages) -> Encoded:
        """A chat in its template, with the assistant's turns and their end tokens trained on.

        What a message holds is encoded as plain characters, whatever tokens it spells.

        Raises PipelineError as `ChatTemplate.segments` does.
        """
        if self._template is None:
            self._template = choose_template(self._tokenizer, self._wanted_template)
            self._breakable = self._markers(self._template.source)
        row = _Row(self)
        for segment in self._template.segments(messages):
            if segment.from_template:
                self._write(row, segment.text, segment.trained)
                continue
            place = 0
            for match in self._breakable.finditer(segment.text) if self._breakable else ():
                row.text(segment.text[place : match.start() + 1], segment.trained)
                row.end_text()
                place = match.start() + 1
            row.text(segment.text[place:], segment.trained)
        row.end_text()
        if row.trained:
            row.trained[0] = False  # nothing precedes it
        return Encoded(row.ids, row.trained)

    def _write(self, row: "_Row", text: str, trained: bool) -> None:
        """Text of a template, in which special tokens are special."""
        place = 0
        for match in self._special.finditer(text):
            row.text(text[place : match.start()], trained)
            spelled = match[0] if match[0] in self._ids else match[0].strip()
            row.token(self._ids[spelled], trained)
            place = match.end()
        row.text(text[place:], trained)

    def _markers(self, source: str) -> re.Pattern[str] | None:
        """Finds tokens in messages that the template writes, though they are not called special.

        `plain_ids` reads those out of a text, as the model's own tokenizer does in any text.
        """
        added = self._tokenizer.added_tokens_decoder.values()
        spelled = {t.content for t in added if not t.special and len(t.content.strip()) > 1}
        used = sorted(text for text in spelled if text in source)
        return re.compile("|".join(map(re.escape, used))) if used else None

    def _text(self, text: str, after: _After) -> list[int]:
        """The ids of a text as they are after nothing, after a special token, or after text."""
        if not text:
            return []
        begins = after == "nothing" or (after == "token" and self._token_begins_text)
        return self._plain(text) if begins or not self._adds_space else self._after_anchor(text)

    def _plain(self, text: str) -> list[int]:
        return plain_ids(self._tokenizer, text)

    def _after_anchor(self, text: str) -> list[int]:
        """The ids of a text that goes on from another: without a space that was not there."""
        for anchor in _ANCHORS:
            before = self._plain(anchor)
            ids = self._plain(anchor + text)
            if ids[: len(before)] == before:
                return ids[len(before) :]
        raise PipelineError(
            f"The tokenizer in {self._tokenizer.name_or_path} cannot encode a text in two parts.",
            "Give the examples as plain text, or take another base model.",
        )


@dataclass
class _Row:
    """The ids of a chat so far, and text that is to be encoded in one go."""

    encoder: Encoder
    ids: list[int] = field(default_factory=list)
    trained: list[bool] = field(default_factory=list)
    _pending: str = ""
    _pending_trained: bool = False
    _after: _After = "nothing"

    def text(self, text: str, trained: bool) -> None:
        """Add text. What is trained on is encoded apart from what is not, as said above."""
        if text and trained != self._pending_trained:
            self.end_text()
            self._pending_trained = trained
        self._pending += text

    def token(self, token: int, trained: bool) -> None:
        """Add a special token."""
        self.end_text()
        self.ids.append(token)
        self.trained.append(trained)
        self._after = "token"

    def end_text(self) -> None:
        """Encode what is pending: later text does not merge with it."""
        if self._pending:
            ids = self.encoder._text(self._pending, self._after)
            self.ids += ids
            self.trained += [self._pending_trained] * len(ids)
            self._pending = ""
            self._after = "text"


def encode_document(tokenizer: "PreTrainedTokenizerBase", text: str) -> Encoded:
    """A document, see `Encoder.document`; for many make one `Encoder`."""
    return Encoder(tokenizer).document(text)


def encode_completion(
    tokenizer: "PreTrainedTokenizerBase", prompt: str, completion: str
) -> Encoded:
    """A prompt and its completion, see `Encoder.completion`; for many make one `Encoder`."""
    return Encoder(tokenizer).completion(prompt, completion)


def encode_chat(
    tokenizer: "PreTrainedTokenizerBase", messages: Messages, template: str | None = None
) -> Encoded:
    """A chat, see `Encoder.chat`; for many make one `Encoder`."""
    return Encoder(tokenizer, template).chat(messages)


# --- into rows ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EncodeSettings:
    """How examples become rows.

    Attributes:
        length: tokens of a row at most.
        overlap: tokens that a block of a document repeats from the last, as context.
        overlong: what becomes of a record (not a document) that is longer than a row.
        template: the chat template in Jinja, "plain", or None for the tokenizer's own.
    """

    length: int
    overlap: int = 0
    overlong: Overlong = "drop"
    template: str | None = None

    def check(self) -> None:
        """Raise PipelineError for a setting that makes no sense."""
        block_spans(0, self.length, self.overlap)
        if self.overlong not in OVERLONG:
            raise UsageError(f"--overlong {self.overlong!r} is not one of {', '.join(OVERLONG)}.")

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Fit:
    """The rows of one example, and what it lost: tokens by reason.

    Its tokens and the `repeated` ones (context at the start of blocks) are the rows' and the
    dropped ones, to the last.
    """

    rows: list[Encoded]
    dropped: dict[str, int] = field(default_factory=dict)
    repeated: int = 0


def fit(encoded: Encoded, length: int, policy: Overlong, overlap: int = 0) -> Fit:
    """The rows of at most `length` tokens that one example becomes.

    Documents (everything trained on) are cut into blocks, whatever the policy. Of records that are
    too long, "drop" leaves out the whole, "truncate" the end, and "split" makes blocks with at
    least one token of context, so that no trained token is lost. A row without a token to train on
    is left out.

    Raises PipelineError for a length or overlap as `block_spans` does.
    """
    n = len(encoded.ids)
    if encoded.trained is None:
        rows = split(encoded, length, overlap)
        return Fit(rows, repeated=sum(len(row.ids) for row in rows) - n)
    if not any(encoded.trained):
        return Fit([], {UNTRAINED: n} if n else {})
    if n <= length:
        return Fit([encoded])
    if policy == "drop":
        return Fit([], {TOO_LONG: n})
    if policy == "truncate":
        start = Encoded(encoded.ids[:length], encoded.trained[:length])
        kept = [start] if start.predicted else []
        return Fit(
            kept, {CUT_OFF: n - length} if kept else {CUT_OFF: n - length, UNTRAINED: length}
        )
    pieces = split(encoded, length, max(1, overlap))
    spans = block_spans(n, length, max(1, overlap))
    kept, lost, repeated = [], 0, 0
    for piece, (start_, fresh, end) in zip(pieces, spans, strict=True):
        if piece.predicted:
            kept.append(piece)
            repeated += fresh - start_
        else:
            lost += end - fresh
    return Fit(kept, {UNTRAINED: lost} if lost else {}, repeated)


def split(encoded: Encoded, length: int, overlap: int = 0) -> list[Encoded]:
    """Blocks of an example with their masks; see `block_spans` for what is trained where."""
    rows = []
    for start, fresh, end in block_spans(len(encoded.ids), length, overlap):
        ids = encoded.ids[start:end]
        if encoded.trained is None and start == fresh:
            rows.append(Encoded(ids))
            continue
        trained: Sequence[bool] = encoded.trained or [True] * len(encoded.ids)
        mask = [False] * (fresh - start) + list(trained[fresh:end])
        mask[0] = False  # nothing precedes it
        rows.append(Encoded(ids, mask))
    return rows
