"""In what language is a text? Told offline, from a few samples of it.

py3langid (a kept fork of langid.py, BSD licence, its model of 139 languages in the package) looks
at the samples; they must agree. What is no language at all (tables, code) it knows as such (zxx).
"""

from collections import Counter
from functools import cache
from typing import Any

SAMPLES = 5
SAMPLE_CHARACTERS = 800

_LEAST_LETTERS = 20
_SURE = 0.6  # the detector's probability, of 1, below which a sample has no say
# Varieties that have a code of three letters only, and the language they are filed under.
_FILED_UNDER = {
    "arz": "ar", "ary": "ar", "grc": "el", "hbo": "he", "sdh": "ku", "uzs": "uz", "wuu": "zh",
    "yue": "zh",
}  # fmt: skip


def detect_language(text: str) -> str | None:
    """The language of a text as an ISO 639-1 code; None where it cannot be told.

    Looks at `SAMPLES` places of `SAMPLE_CHARACTERS` each, which must agree by more than half.
    None for a language without such a code, too.
    """
    votes: Counter[str] = Counter()
    samples = _samples(text)
    for sample in samples:
        if sum(map(str.isalpha, sample)) < _LEAST_LETTERS:
            continue
        language, probability = _detector().classify(sample)
        votes[language if probability >= _SURE else ""] += 1
    if not votes:
        return None
    language, count = votes.most_common(1)[0]
    language = _FILED_UNDER.get(language, language)
    return language if 2 * count > votes.total() and len(language) == 2 else None


def _samples(text: str) -> list[str]:
    """Pieces from the middle of equal parts of a text, or all of a short one."""
    if len(text) <= SAMPLES * SAMPLE_CHARACTERS:
        return [text]
    part = len(text) // SAMPLES
    starts = [i * part + (part - SAMPLE_CHARACTERS) // 2 for i in range(SAMPLES)]
    return [text[start : start + SAMPLE_CHARACTERS] for start in starts]


@cache
def _detector() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
