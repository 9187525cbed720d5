"""Does the GGUF read and end texts as the model was trained to: ids of texts, of special tokens."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError
from pipeline.export import llama
from pipeline.export.proof_text import proof_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_AROUND = 3  # tokens shown on either side of a difference
_SPECIAL = 256  # special tokens whose texts are looked up


@dataclass(frozen=True)
class Trained:
    """How the model was trained to read: what a GGUF is held against.

    Attributes:
        texts, ids: pieces of text, and the tokens that each is made of, as in training.
        special: texts of special tokens with their ids.
        prefix: ids that go before every text.
        suffix: ids that the tokenizer puts after a text by itself; training puts the EOS there.
        bos, eos, pad: ids, or None where the tokenizer names none.
        decode: from ids to text, to show where a difference is.
    """

    texts: list[str]
    ids: list[list[int]]
    special: dict[str, int]
    prefix: list[int]
    suffix: list[int]
    bos: int | None
    eos: int | None
    pad: int | None
    decode: Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class Reading:
    """How a GGUF reads. `unnormalised` counts the texts that it reads as in training only after
    they were brought into a normal form of Unicode, which llama.cpp does not do by itself;
    `first` tells the first difference."""

    texts: int
    bytes: int
    tokens: int
    differences: int
    unnormalised: int
    first: str | None
    special: dict[str, Any]

    def as_checks(self) -> dict[str, Any]:
        """The same as it is recorded: by what was checked."""
        about = asdict(self)
        special = about.pop("special")
        return {
            "token_ids": {"equal": self.differences == 0, **about},
            "special_tokens": {"equal": True, **special},
        }


def reading_of(
    tokenizer: "PreTrainedTokenizerBase",
    encode: Callable[[str], list[int]],
    held_out: Sequence[Sequence[int]],
) -> Trained:
    """What a GGUF is to be held against.

    Args:
        tokenizer: the one that the model was trained with.
        encode: from a text to its ids, as training encodes texts.
        held_out: windows of token ids, of the kind of text that the model was trained on.
    """

    def decode(ids: Sequence[int]) -> str:
        text = tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return str(text)

    added = tokenizer.added_tokens_decoder.items()
    special = {token.content: int(i) for i, token in added if token.special}
    texts = proof_texts([decode(window) for window in held_out], list(special)[:_SPECIAL])
    around = tokenizer("a", return_special_tokens_mask=True)
    ids, mask = list(around["input_ids"]), list(around["special_tokens_mask"])
    inner = [i for i, is_special in enumerate(mask) if not is_special] or [0]
    return Trained(
        texts,
        [encode(text) for text in texts],
        dict(list(special.items())[:_SPECIAL]),
        ids[: inner[0]],
        ids[inner[-1] + 1 :],
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
        tokenizer.pad_token_id,
        decode,
    )


def check_reading(gguf: Path, trained: Trained, log: Path, *, allowed: int = 0) -> Reading:
    """Compare the GGUF's tokenizer with the one of the training, text by text.

    Raises:
        PipelineError: more than `allowed` texts are split otherwise (the first is shown), or a
            special token or the rule when to add it is another.
    """
    about = llama.info(gguf, log)
    _check_special(gguf, trained, about, log)
    found = llama.tokenize(gguf, trained.texts, log)
    wrong = [i for i, ids in enumerate(found) if ids != trained.ids[i]]
    normal = _same_when_normal(gguf, trained, wrong, log)
    wrong = [i for i in wrong if i not in normal]
    first = _shown(trained, trained.ids[wrong[0]], found[wrong[0]]) if wrong else None
    if len(wrong) > allowed:
        raise PipelineError(
            f"The tokenizer in {gguf.name} is not the one that the model was trained with:"
            f" {len(wrong)} of {len(found)} texts are split otherwise, at first {first}"
            f" (log: {log}).",
            "llama.cpp may not know this tokenizer well enough. --max-token-differences says how"
            " many texts may differ.",
        )
    return Reading(
        texts=len(found),
        bytes=sum(len(text.encode("utf-8")) for text in trained.texts),
        tokens=sum(map(len, trained.ids)),
        differences=len(wrong),
        unnormalised=len(normal),
        first=first,
        special={key: about[key] for key in ("bos", "eos", "pad", "adds_bos", "adds_eos")},
    )


def _same_when_normal(gguf: Path, trained: Trained, wrong: Sequence[int], log: Path) -> set[int]:
    """Those texts that are read as in training once they are in a normal form of Unicode.

    Some tokenizers bring every text into one before they split it; llama.cpp leaves that out.
    """
    normal: set[int] = set()
    for form in ("NFC", "NFKC"):
        texts = [unicodedata.normalize(form, trained.texts[i]) for i in wrong]  # type: ignore[arg-type]
        asked = [
            (i, text) for i, text in zip(wrong, texts, strict=True) if text != trained.texts[i]
        ]
        if asked:
            found = llama.tokenize(gguf, [text for _, text in asked], log)
            pairs = zip(asked, found, strict=True)
            normal |= {i for (i, _), ids in pairs if ids == trained.ids[i]}
    return normal


def _shown(trained: Trained, wanted: Sequence[int], found: Sequence[int]) -> str:
    """Where two lists of ids part, with what stands there."""
    pairs = enumerate(zip_longest(found, wanted))
    at = next(i for i, (mine, expected) in pairs if mine != expected)
    begin, end = max(0, at - _AROUND), at + _AROUND
    around = trained.decode(wanted[begin:end]) or trained.decode(found[begin:end])
    return f"{around!r}: {list(found[at:end])} instead of {list(wanted[at:end])}"


def _check_special(gguf: Path, trained: Trained, about: Mapping[str, Any], log: Path) -> None:
    """Raise a PipelineError unless special tokens are those of the training, and their rules."""
    for name, wanted in (("EOS", trained.eos), ("BOS", trained.bos), ("pad token", trained.pad)):
        found = about[name.split()[0].lower()]
        # A GGUF that names no pad token, or a BOS of its own that it never adds, does no harm.
        harmless = found < 0 if name == "pad token" else False
        if wanted is not None and found != wanted and not harmless:
            raise _otherwise(gguf, f"its {name} is {found} instead of {wanted}", log)
    adds = [about["bos"]] if about["adds_bos"] else []
    if adds != trained.prefix:
        raise _otherwise(
            gguf, f"it puts {adds or 'nothing'} before a text, the training"
            f" {trained.prefix or 'nothing'}", log,
        )  # fmt: skip
    if about["adds_eos"] != bool(trained.suffix):
        does = "puts an EOS" if about["adds_eos"] else "puts nothing"
        raise _otherwise(gguf, f"it {does} after a prompt, unlike the model's own tokenizer", log)
    if trained.eos is not None and trained.eos not in about["end_tokens"]:
        raise _otherwise(gguf, f"token {trained.eos}, its EOS, does not end a text", log)
    spelled = llama.tokenize(gguf, list(trained.special), log, special=True)
    for (text, wanted), ids in zip(trained.special.items(), spelled, strict=True):
        if ids != [wanted]:
            raise _otherwise(gguf, f"{text!r} is {ids} instead of [{wanted}]", log)


def _otherwise(gguf: Path, what: str, log: Path) -> PipelineError:
    return PipelineError(
        f"The special tokens in {gguf.name} are not those that the model was trained with:"
        f" {what} (log: {log}).",
        "Look at bos_token, eos_token and pad_token in the base model's tokenizer_config.json.",
    )
