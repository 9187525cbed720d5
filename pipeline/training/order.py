"""In which order sequences are trained on: drawn anew for every pass, the same for the same seed.

The order of the whole run is known before it begins, so that a run that goes on after a stop reads
on where it was, without going through what is done.

A series is read segment by segment (`segment_order`), each in an order of its own.
"""

import random
from collections.abc import Sequence


def draw_order(n: int, total: int, seed: int) -> list[int]:
    """`total` numbers below `n`: one shuffled pass over all of them after the other.

    The same seed gives the same order, and a longer run begins with the shorter one.
    """
    order: list[int] = []
    epoch = 0
    while len(order) < total:
        order += _one_pass(n, epoch, seed)
        epoch += 1
    return order[:total]


def _one_pass(n: int, epoch: int, seed: int) -> list[int]:
    numbers = list(range(n))
    random.Random(f"{seed}/{epoch}").shuffle(numbers)
    return numbers


def segment_order(segments: Sequence[Sequence[int]], total: int, seed: int) -> list[int]:
    """`total` numbers: pass after pass over all segments, each pass one segment after the other.

    Within a segment they are drawn as `draw_order` does it, so that a series of one segment has the
    order of data without segments. The same seed gives the same order, a longer run begins with the
    shorter one, and in the first pass a segment that is added at the end changes nothing before it.
    Raises ValueError where there are no numbers to draw from.
    """
    if total > 0 and not any(segments):
        raise ValueError("There is nothing in the segments.")
    order: list[int] = []
    epoch = 0
    while len(order) < total:
        for numbers in segments:
            order += [numbers[i] for i in _one_pass(len(numbers), epoch, seed)]
        epoch += 1
    return order[:total]
