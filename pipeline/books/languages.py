"""In what language is a text? Told offline, from a few samples of it.

py3langid (a kept fork of langid.py, BSD licence, its model of 139 languages in the package) looks
at the samples; they must agree. What is no language at all (tables, code) it knows as such (zxx).
Its model takes half a second to load, so what is plainly English or German is told by its small
words.
"""

from collections import Counter
from functools import cache
from operator import itemgetter
from typing import Any

SAMPLES = 5
SAMPLE_CHARACTERS = 800

_LEAST_LETTERS = 20
_SURE = 0.6  # the detector's probability, of 1, below which a sample has no say
# Words that other languages seldom have: a third of what is written in the language.
_SMALL_WORDS = {
    "en": "the of and to in that was his he it with as for had is not be on at by she her which i "
    "you my a me they from this but are have all so",
    "de": "und der die das ich nicht ist ein zu sie es den mit dem sich auf wie er von wir du mir "
    "mich auch als wenn nur noch ihr ihn im einen eine dich sind dir doch hat",
}
_LANGUAGE_OF = {word: code for code, words in _SMALL_WORDS.items() for word in words.split()}
_SMALL_SHARE, _ENOUGH_WORDS = 0.25, 40
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
    samples = [each for each in _samples(text) if sum(map(str.isalpha, each)) >= _LEAST_LETTERS]
    if not samples:
        return None
    plain, count = Counter(map(_by_small_words, samples)).most_common(1)[0]
    if plain and 2 * count > len(samples):
        return plain
    votes: Counter[str] = Counter()
    for sample in samples:
        language, probability = _detector().classify(sample)
        votes[language if probability >= _SURE else ""] += 1
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


def _by_small_words(sample: str) -> str | None:
    """The language of a sample that the detector need not be asked about."""
    words = sample.lower().split()
    found = Counter(map(_LANGUAGE_OF.get, words))
    del found[None]
    language, count = max(found.items(), key=itemgetter(1), default=(None, 0))
    is_plain = len(words) >= _ENOUGH_WORDS and count >= _SMALL_SHARE * len(words)
    return language if is_plain else None


@cache
def _detector() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
