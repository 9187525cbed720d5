"""Is it a text worth learning from? Measures of one text, and limits that tell junk from books.

The limits reject what is no running text: tables of numbers, hex dumps, encoded files, lists of
files, scans that failed, a line said over and over. They are no judges of style: verse, plays, old
spelling and every script pass with a wide margin (`Limits` has the figures).

All but the length is measured on slices of the text, since a book is alike throughout: `SLICES`
of them, and `LONG_SLICES` for lines that are repeated.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from string import ascii_letters
from typing import Any

SLICES, SLICE_CHARACTERS = 8, 600
LONG_SLICES, LONG_SLICE_CHARACTERS = 8, 4000

ENOUGH_CHARACTERS = 300

_ASCII_LETTERS = ascii_letters.encode()
_ORDINARY = frozenset(".,;:!?'\"()-")  # punctuation; beyond ASCII all of it is
_BETWEEN_WORDS = re.compile("[—–―…\u3001-\u303f\uff01-\uff65]")  # as spaces, "--" and ".." are
_INSIDE_WORDS = dict.fromkeys(map(ord, "'’‘ʼ‐‑-·\u00ad\u200c\u200d"))
# The case of words: small, all capitals, the first one a capital; McDonald and DeLancey as well.
_CASE = re.compile(r"(?:[A-Z][a-z]{1,2})?[A-Z]?[a-z]+|[A-Z]+")
_CLUSTERS = (
    "q[^uaeio] j[qxyw] x[bdgjkmnrsvz] v[bfqwx] w[qxvj] z[qx] b[qxw] c[xfj] d[qx] f[qxvzgpbmd] "
    "g[qxcpfv] h[qxzgj] k[qxgc] l[qx] m[qxzjg] p[qxjvzg] r[q] s[x] t[qx] y[qj]"
)
# Pairs of letters that next to no language has, three equal ones, eight consonants in a row.
_NO_VOWEL = r"\x00-`b-df-hj-np-tvxz-\x7f"  # of ASCII; what has an accent is taken for a vowel
_NO_WORD = re.compile(rf"{'|'.join(_CLUSTERS.split())}|(.)\1\1|[{_NO_VOWEL}]{{8}}")
_VOWEL = re.compile(f"[^{_NO_VOWEL}]")
_ONE_LETTER_WORDS = frozenset("aeikosuvwyz")
_LONGEST_WORD = 45  # letters; German and Finnish have longer ones, but not often
_FIRST_NON_LATIN, _MORE_LATIN = 0x370, range(0x1E00, 0x1F00)
_LONG_LINE = 400  # characters; longer ones are looked at sentence by sentence


@dataclass(frozen=True)
class Quality:
    """The measures of a text. Shares are of 1.

    - `characters`: its length; `words`: how many it has, about (in scripts that do not part
      words, two letters are taken for one).
    - `symbol_share`: of its characters other than spaces, those that are neither letters, digits
      nor ordinary punctuation; `digit_share`: those that are digits.
    - `repeated_line_share`: of the characters of long slices, those in lines and sentences that
      came before.
    - `wordlike_share`: of what stands between spaces, how much has the form of a word.
    """

    characters: int
    words: int
    symbol_share: float
    digit_share: float
    repeated_line_share: float
    wordlike_share: float

    def as_dict(self) -> dict[str, Any]:
        """The measures by name, shares with four digits."""
        return {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True)
class Limits:
    """What a text must keep to. Real books stay far from them.

    In brackets what the worst of 50 real ones of four languages, verse and plays among them, has.

    - `minimum_words`: 5. A letter or a tale for children may be short; an empty page is not one.
    - `maximum_symbol_share`: 0.15 (0.01).
    - `maximum_digit_share`: 0.25 (0.01).
    - `maximum_repeated_lines`: 0.6 (0.05): a text twice in a file passes, a page often does not.
    - `minimum_wordlike`: 0.65 (0.96). Random letters come to less than half.

    A text of fewer than `ENOUGH_CHARACTERS` is too short for shares to say much: only its words
    are counted.
    """

    minimum_words: int = 5
    maximum_symbol_share: float = 0.15
    maximum_digit_share: float = 0.25
    maximum_repeated_lines: float = 0.6
    minimum_wordlike: float = 0.65


def measure(text: str) -> Quality:
    """The measures of a text, in about 1 ms whatever its length."""
    sample = _sample(text, SLICES, SLICE_CHARACTERS)
    kinds = _count_kinds(sample)
    solid = sum(kinds.values()) - kinds["space"]
    tokens, wordlike = _count_words(sample)
    # Of scripts that do not part words, two letters are taken for one.
    words = tokens if not kinds["unparted"] else max(tokens, kinds["unparted"] // 2)
    return Quality(
        len(text),
        round(words * len(text) / max(1, len(sample))),
        kinds["symbol"] / max(1, solid),
        kinds["digit"] / max(1, solid),
        _repeated_share(_sample(text, LONG_SLICES, LONG_SLICE_CHARACTERS)),
        wordlike / max(1, tokens),
    )


def find_fault(
    quality: Quality,
    language: str | None,
    limits: Limits = Limits(),
    languages: Collection[str] = (),
) -> tuple[str, str] | None:
    """Why a text is left out: the name of the measure, to count by, and a clause with figures.

    `languages` are those wanted, as ISO 639-1 codes; none for any.
    """
    if languages and language not in languages:
        wanted = " or ".join(sorted(languages))
        if language is None:
            return "language", f"its language cannot be told, and {wanted} is wanted"
        return "language", f"its language is {language}, and {wanted} is wanted"
    q, most = quality, "at most"
    if q.words < limits.minimum_words:
        return "words", f"it has {q.words} words, and at least {limits.minimum_words} are wanted"
    if q.characters < ENOUGH_CHARACTERS:
        return None
    checks = (
        ("repeated_lines", q.repeated_line_share > limits.maximum_repeated_lines,
         f"{q.repeated_line_share:.0%} of it repeats earlier lines, {most} "
         f"{limits.maximum_repeated_lines:.0%} may"),
        ("digits", q.digit_share > limits.maximum_digit_share,
         f"{q.digit_share:.0%} of it are digits, {most} {limits.maximum_digit_share:.0%} may be"),
        ("symbols", q.symbol_share > limits.maximum_symbol_share,
         f"{q.symbol_share:.0%} of it are symbols, {most} "
         f"{limits.maximum_symbol_share:.0%} may be"),
        ("wordlike", q.wordlike_share < limits.minimum_wordlike,
         f"{q.wordlike_share:.0%} of its words look like words, at least "
         f"{limits.minimum_wordlike:.0%} must"),
    )  # fmt: skip
    return next(((name, clause) for name, wrong, clause in checks if wrong), None)


def complaint(
    quality: Quality,
    language: str | None,
    limits: Limits = Limits(),
    languages: Collection[str] = (),
) -> str | None:
    """Why a text is left out, as one clause with figure and limit; None if it is fine."""
    fault = find_fault(quality, language, limits, languages)
    return fault and fault[1]


# --- measures -------------------------------------------------------------------------------------


def _sample(text: str, slices: int, characters: int) -> str:
    """Slices from the middle of equal parts of a text, each of whole words; all of a short one."""
    if len(text) <= slices * characters:
        return text
    part = len(text) // slices
    pieces = []
    for i in range(slices):
        start = i * part + (part - characters) // 2
        piece = text[start : start + characters]
        words = piece.split(None, 1)
        whole = words[1].rsplit(None, 1)[0] if len(words) == 2 else piece
        pieces.append(whole if 2 * len(whole) > len(piece) else piece)
    return "\n".join(pieces)


def _count_kinds(text: str) -> Counter[str]:
    """How many characters of each kind a text has."""
    encoded = text.encode("utf-8", "surrogatepass")
    rest = encoded.translate(None, _ASCII_LETTERS)  # four of five are gone
    kinds = Counter(letter=len(encoded) - len(rest))
    for character, count in Counter(rest.decode("utf-8", "surrogatepass")).items():
        kinds[_kind(character)] += count
    return kinds


@cache
def _kind(character: str) -> str:
    """One of "letter", "unparted" (a letter of a script without spaces between words), "digit",
    "punctuation", "space", "symbol"."""
    category = unicodedata.category(character)
    if category[0] in "LM":
        return "unparted" if _is_unparted(ord(character)) else "letter"
    if category[0] == "N":
        return "digit"
    if category[0] == "Z" or character.isspace():
        return "space"
    if character in _ORDINARY or (category[0] == "P" and not character.isascii()):
        return "punctuation"
    return "punctuation" if category == "Cf" else "symbol"


def _is_unparted(code: int) -> bool:
    """Whether a letter is Thai, Lao, Burmese, Khmer, Japanese or Chinese."""
    return (
        0xE00 <= code < 0xF00
        or 0x1000 <= code < 0x10A0
        or 0x1780 <= code < 0x1800
        or 0x3040 <= code < 0x3100
        or 0x3400 <= code < 0xA000
        or 0xF900 <= code < 0xFB00
        or 0x20000 <= code < 0x32000
    )


def _count_words(text: str) -> tuple[int, int]:
    """How many pieces with a letter or digit stand between spaces, and how many look like words."""
    text = text.replace("--", " ").replace("..", " ")
    if not text.isascii():
        text = _BETWEEN_WORDS.sub(" ", text)
    kinds = Counter(map(_looks_like_word, text.split()))
    return kinds[True] + kinds[False], kinds[True]


@lru_cache(maxsize=1 << 16)  # books share most of their words
def _looks_like_word(piece: str) -> bool | None:
    """None for a piece that is nothing but punctuation."""
    token = piece.strip(_around_words())
    return _is_wordlike(token) if token else None


@cache
def _around_words() -> str:
    """What is taken from the ends of words: all punctuation."""
    every = map(chr, range(0x10000))
    return "<>=+|~^`$" + "".join(sign for sign in every if unicodedata.category(sign)[0] == "P")


def _is_wordlike(token: str) -> bool:
    letters = token.translate(_INSIDE_WORDS)
    if not letters.isascii():
        return _is_foreign_word(letters)
    if not letters.isalpha() or len(letters) > _LONGEST_WORD:
        return False
    if not _CASE.fullmatch(letters) and not _is_compound(token):
        return False
    small = letters.lower()
    if len(small) == 1:
        return small in _ONE_LETTER_WORDS
    return bool(_VOWEL.search(small)) and not _NO_WORD.search(small)


def _is_compound(token: str) -> bool:
    parts = re.split(r"[^A-Za-z]+", token)
    return len(parts) > 1 and all(_CASE.fullmatch(part) for part in parts if part)


def _is_foreign_word(token: str) -> bool:
    """Whether a word with other letters than ASCII's is all letters, and all of one script."""
    if not all(_kind(character) in ("letter", "unparted") for character in token):
        return False
    latin = [code < _FIRST_NON_LATIN or code in _MORE_LATIN for code in map(ord, token)
             if unicodedata.category(chr(code))[0] == "L"]  # fmt: skip
    if all(latin):
        return len(token) <= _LONGEST_WORD and not _NO_WORD.search(token.lower())
    return not any(latin) and not re.search(r"(.)\1\1\1", token)


def _repeated_share(text: str) -> float:
    """The share of the characters in lines, and in sentences of long lines, that came before."""
    lines = text.split("\n")
    if len(text) > _LONG_LINE * len(lines) // 4:
        end = ". " if ". " in text else "。"
        lines = text.replace(end, end + "\n").split("\n")
    total = sum(map(len, lines))
    return 1 - sum(map(len, set(lines))) / total if total else 0.0
