"""Finding rare things in whole books fast."""

import re
from collections.abc import Iterable


def occurrences(text: str, needles: Iterable[str]) -> list[int]:
    """Where any of the needles stands, in order. Plain searches for rare words, and patterns only
    where one stands, are some twenty times as fast as patterns over a whole book."""
    places = []
    for needle in needles:
        at = text.find(needle)
        while at >= 0:
            places.append(at)
            at = text.find(needle, at + len(needle))
    return sorted(places)


_BRACKET = re.compile(r"[\[\]]")


def bracket_pairs(text: str, longest: int) -> list[tuple[int, int]]:
    """The spans [start, end) of square brackets that are closed within `longest` characters, in
    the order of their ends: a nested pair comes before the one around it. One pass, whatever
    stands unclosed."""
    pairs = []
    opened: list[int] = []
    for match in _BRACKET.finditer(text):
        if match.group() == "[":
            opened.append(match.start())
        elif opened:
            start = opened.pop()
            if match.end() - start <= longest:
                pairs.append((start, match.end()))
    return pairs


def outermost(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans that lie in no other, in order."""
    outer: list[tuple[int, int]] = []
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        if not outer or start >= outer[-1][1]:
            outer.append((start, end))
    return outer
