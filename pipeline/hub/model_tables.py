"""The tables of a model card: scores, proof, samples, what was copied."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.hub.markdown import Markdown, cell, one_line, paragraphs, table

_LONGEST = 300  # characters of a copied stretch that are shown
_LEFT_OUT = Markdown("*(left out)*")
_TOP1 = ("top1", "top_1", "top1_agreement", "top_1_agreement")
_KL = ("kl", "mean_kl", "kl_divergence")


@dataclass(frozen=True)
class ScoreRow:
    """The scores of one model: `difference` is that to the merged model, in bits per byte.

    `of_part` is how many bytes were scored, where that was not all of the held-out text.
    """

    name: str
    bits: float | None
    difference: float | None = None
    top1: float | None = None
    kl: float | None = None
    speed: float | None = None
    is_tuned: bool = True
    of_part: int | None = None


def score_rows(proof: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[ScoreRow]:
    """Base, adapter, merged model and each GGUF, as far as they were scored."""
    bits = dict(_mapping(evaluation.get("bits_per_byte")))
    bits |= _mapping(proof.get("bits_per_byte"))
    merged = _mapping(proof.get("merged"))
    if (found := _number(merged, "bits_per_byte")) is not None:
        bits["merged"] = found
    names = {"base": "base model", "adapter": "trained model", "merged": "merged, 16 bits"}
    part = part_of_text(proof)
    rows = [
        ScoreRow(title, value, is_tuned=name != "base", of_part=part if name == "merged" else None)
        for name, title in names.items()
        if (value := _number(bits, name)) is not None
    ]
    for name, about in _mapping(proof.get("files")).items():
        file = _mapping(about)
        rows.append(
            ScoreRow(
                str(name), _number(file, "bits_per_byte"),
                _number(file, "bits_per_byte_difference"), _number(file, *_TOP1),
                _number(file, *_KL), _number(file, "tokens_per_second"), of_part=part,
            )
        )  # fmt: skip
    return rows


def part_of_text(proof: Mapping[str, Any]) -> int | None:
    """The bytes of held-out text that the proof scored, if that was a part; None for all of it."""
    text = _mapping(proof.get("text"))
    size = text.get("bytes")
    return size if text.get("whole") is False and isinstance(size, int) else None


def is_of_other_text(proof: Mapping[str, Any]) -> bool:
    """Whether there was no held-out text, so that the proof scored another."""
    return _mapping(proof.get("text")).get("held_out") is False


def proof_rows(proof: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was checked, and with what result; [] if the proof says nothing of checks."""
    bounds = _mapping(proof.get("bounds"))
    rows = [(f"bound set by hand: {_words(name)}", _result(value))
            for name, value in bounds.items() if value]  # fmt: skip
    rows += _checks(proof.get("checks"))
    for name, about in _mapping(proof.get("files")).items():
        rows += [(f"{name}: {check}", result) for check, result in
                 _checks(_mapping(about).get("checks"))]  # fmt: skip
    return rows


def _checks(checks: Any) -> Iterator[tuple[str, str]]:
    if isinstance(checks, Mapping):
        for name, value in checks.items():
            yield _words(name), _told(str(name), value)
    elif isinstance(checks, list):
        for number, check in enumerate(checks, 1):
            about = dict(_mapping(check))
            name = about.pop("name", None) or about.pop("check", None) or f"check {number}"
            yield _words(name), _result(about if about else check)


def _told(name: str, value: Any) -> str:
    """The result of a check as a sentence where it is one of those that stage 7 makes."""
    tell = _KNOWN_CHECKS.get(name)
    if tell is not None and isinstance(value, Mapping):
        try:
            return tell(value)
        except (KeyError, TypeError, ValueError):  # as another version wrote it
            pass
    return _result(value)


def _told_token_ids(found: Mapping[str, Any]) -> str:
    said = (
        f"{_verdict(found)}: {found['texts']:,} texts ({found['bytes']:,} bytes, "
        f"{found['tokens']:,} tokens) split as in training, {found['differences']:,} otherwise"
    )
    if found["unnormalised"]:
        said += f"; {found['unnormalised']:,} only in a normal form of Unicode"
    return said + (f"; the first difference: {found['first']}" if found["first"] else "")


def _told_special_tokens(found: Mapping[str, Any]) -> str:
    ids = ", ".join(
        f"{name} {'none' if found[name] is None else found[name]}" for name in ("bos", "eos", "pad")
    )
    adds = ", ".join(f"{name} {_yes(found[f'adds_{name}'])}" for name in ("bos", "eos"))
    return f"{_verdict(found)}: ids as in training ({ids}); put around texts: {adds}"


def _told_ends(found: Mapping[str, Any]) -> str:
    if not found["places"]:
        return "not checked: the held-out text that was looked at has no end"
    said = (
        f"at {found['places']:,} ends of held-out texts this file ends {found['gguf_ends']:,} "
        f"times, the merged model {found['merged_model_ends']:,}"
    )
    if found["probability"] is not None:
        said += f"; mean probability of the end {found['probability']:.3g}"
    if found["stops_by_itself"] is None:
        return f"{said}; whether writing stops there was not tried"
    return f"{said}; writing stops there: {_yes(found['stops_by_itself'])}"


def _told_merging(found: Mapping[str, Any]) -> str:
    if "left_out" in found:
        return f"not compared: {found['left_out']}"
    return (
        f"mean KL {found['kl']:.3g} nats per token ({found['kl_max']:.3g} at the most), same next "
        f"token {found['top1']:.2%}, furthest logit {found['furthest_logit']:.3g}"
    )


_KNOWN_CHECKS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "token_ids": _told_token_ids,
    "special_tokens": _told_special_tokens,
    "ends": _told_ends,
    "merged_model_is_the_trained_one": _told_merging,
}


def _verdict(found: Mapping[str, Any]) -> str:
    return "passed" if found["equal"] else "failed"


def _yes(value: Any) -> str:
    return "yes" if value else "no"


def _words(name: Any) -> str:
    return one_line(str(name).replace("_", " "))


def _result(value: Any) -> str:
    """A value of the proof in words, whatever it is."""
    if isinstance(value, bool):
        return "passed" if value else "failed"
    if value is None:
        return "not checked"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        rest = dict(value)
        verdict = next((rest.pop(key) for key in ("passed", "ok", "equal") if key in rest), None)
        parts = [] if verdict is None else [_result(verdict)]
        # What is beside the verdict is a fact, and not a check of its own.
        parts += [
            f"{_words(name)} {_yes(each) if isinstance(each, bool) else _result(each)}"
            for name, each in rest.items() if each is not None
        ]  # fmt: skip
        return "; ".join(parts)
    if isinstance(value, list):
        return ", ".join(map(_result, value))
    return str(value)


def samples_tables(
    samples: Sequence[tuple[str, Mapping[str, str | None]]],
) -> Iterator[str]:
    """For each prompt a table of what each model wrote; None is said to be left out."""
    for prompt, texts in samples:
        yield f"> {paragraphs(prompt) or cell('(nothing)')}"
        yield table(
            ("model", "goes on"),
            (
                (name, _LEFT_OUT if text is None else paragraphs(text))
                for name, text in texts.items()
            ),
        )


def memorisation_table(copied: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """The longest stretch of each sample: words, characters, the book, and the stretch."""
    rows = []
    for who, found in copied:
        words, characters = _mapping(found.get("words")), _mapping(found.get("characters"))
        text = one_line(str(words.get("text") or ""))
        shown = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
        book = words.get("title") or words.get("document") or "none"
        rows.append((who, words.get("length") or 0, characters.get("length") or 0, book, shown))
    return table(("sample", "words", "characters", "book", "words in common"), rows)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(values: Mapping[str, Any], *names: str) -> float | None:
    """The first of these that is a number."""
    for name in names:
        value = values.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return None
