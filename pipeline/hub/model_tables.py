"""The tables of a model card: scores, proof, samples, what was copied."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.hub.markdown import Markdown, cell, one_line, paragraphs, table

_LONGEST = 300  # characters of a copied stretch that are shown
_LEFT_OUT = Markdown("*(left out)*")
_TOP1 = ("top1", "top_1", "top1_agreement", "top_1_agreement")
_KL = ("kl", "mean_kl", "kl_divergence")


@dataclass(frozen=True)
class ScoreRow:
    """The scores of one model: `difference` is that to the merged model, in bits per byte."""

    name: str
    bits: float | None
    difference: float | None = None
    top1: float | None = None
    kl: float | None = None
    speed: float | None = None
    is_tuned: bool = True


def score_rows(proof: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[ScoreRow]:
    """Base, adapter, merged model and each GGUF, as far as they were scored."""
    bits = dict(_mapping(evaluation.get("bits_per_byte")))
    bits |= _mapping(proof.get("bits_per_byte"))
    merged = _mapping(proof.get("merged"))
    if (found := _number(merged, "bits_per_byte")) is not None:
        bits["merged"] = found
    names = {"base": "base model", "adapter": "trained model", "merged": "merged, 16 bits"}
    rows = [
        ScoreRow(title, value, is_tuned=name != "base")
        for name, title in names.items()
        if (value := _number(bits, name)) is not None
    ]
    for name, about in _mapping(proof.get("files")).items():
        file = _mapping(about)
        rows.append(
            ScoreRow(
                str(name), _number(file, "bits_per_byte"),
                _number(file, "bits_per_byte_difference"), _number(file, *_TOP1),
                _number(file, *_KL), _number(file, "tokens_per_second"),
            )
        )  # fmt: skip
    return rows


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
            yield _words(name), _result(value)
    elif isinstance(checks, list):
        for number, check in enumerate(checks, 1):
            about = dict(_mapping(check))
            name = about.pop("name", None) or about.pop("check", None) or f"check {number}"
            yield _words(name), _result(about if about else check)


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
        parts += [f"{_words(name)} {_result(each)}" for name, each in rest.items()]
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
