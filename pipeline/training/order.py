"""In which order sequences are trained on: drawn anew for every pass, the same for the same seed.

The order of the whole run is known before it begins, so that a run that goes on after a stop reads
on where it was, without going through what is done.
"""

import random


def draw_order(n: int, total: int, seed: int) -> list[int]:
    """`total` numbers below `n`: one shuffled pass over all of them after the other.

    The same seed gives the same order, and a longer run begins with the shorter one.
    """
    order: list[int] = []
    epoch = 0
    while len(order) < total:
        one_pass = list(range(n))
        random.Random(f"{seed}/{epoch}").shuffle(one_pass)
        order += one_pass
        epoch += 1
    return order[:total]
