"""In which order sequences are trained on: drawn anew for every pass, the same for the same seed.

The order of the whole run is known before it begins, so that a run that goes on after a stop reads
on where it was, without going through what is done. A run that is shorter than one pass draws
evenly from all texts (`even_order`).

A series is read segment by segment (`segment_order`), each in an order of its own.
"""

import random
from collections import defaultdict
from collections.abc import Hashable, Sequence


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


def even_order(groups: Sequence[Hashable], total: int, seed: int) -> list[int]:
    """`total` numbers below `len(groups)`, with as many of each group (number n is of `groups[n]`),
    until one has none left: in rounds of one of each, in an order drawn for every round.

    A run that is shorter than a pass sees as many texts as it can, where numbers drawn from all
    alike would mostly be of the longest few. Pass after pass, as `draw_order` does it: the same
    seed gives the same order, and a longer run begins with the shorter one.
    """
    order: list[int] = []
    epoch = 0
    while len(order) < total:
        queues: defaultdict[Hashable, list[int]] = defaultdict(list)
        for number in reversed(_one_pass(len(groups), epoch, seed)):
            queues[groups[number]].append(number)
        left = [queues[group] for group in dict.fromkeys(groups)]
        turn = 0
        while left:
            random.Random(f"{seed}/{epoch}/{turn}").shuffle(left)
            order += [queue.pop() for queue in left]
            left = [queue for queue in left if queue]
            turn += 1
        epoch += 1
    return order[:total]


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
