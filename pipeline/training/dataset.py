"""From samples to the sequences that a model is trained on, with an account of every token."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.console import warn
from pipeline.corpus.encoding import TOO_LONG, UNTRAINED, EncodeSettings
from pipeline.corpus.examples import Joins, Shape
from pipeline.corpus.token_cache import EMPTY, Example, open_or_build
from pipeline.corpus.token_store import TokenStore
from pipeline.errors import PipelineError
from pipeline.training.batches import sequences_of
from pipeline.training.data import NOUNS, Sample, characters_of, kind_of
from pipeline.training.settings import TrainSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_OWN_FAULT = "This is a fault of the program: please report it."
_SHOWN_IDS = 5


@dataclass
class TrainingData:
    """Sequences of rows of token ids, and the account of what they were made of.

    `sequences` has the numbers of each sequence's rows in the store; for each sequence `lengths`
    has its tokens, `trained` those that are trained on (of a text all: only the first of a row has
    nothing before it), `collections` the source of its rows where sources are weighted.
    """

    kind: Shape
    store: TokenStore
    sequences: list[list[int]]
    packed: bool
    lengths: list[int]
    trained: list[int]
    collections: list[str | None]
    ledger: dict[str, Any]

    @property
    def examples(self) -> int:
        """Documents or records that something was trained on of."""
        return int(self.ledger["examples"] - self.ledger["empty"])

    @property
    def tokens(self) -> int:
        """Tokens in all sequences."""
        return sum(self.lengths)


def training_data(
    samples: Sequence[Sample],
    tokenizer_path: Path,
    settings: TrainSettings,
    folder: Path,
    *,
    jobs: int = 1,
    packing: bool = True,
    weighted: bool = False,
    kind: Shape | None = None,
    one_by_one: bool = True,
) -> TrainingData:
    """Tokenize samples into a store in `folder` (or find it there) and put rows into sequences.

    Args:
        packing: short rows share a sequence.
        weighted: rows of different sources never do, as the sources are drawn from apart.
        kind: what the samples are, where that is known: of none it cannot be told.
        one_by_one: without a `micro_batch_size` one sequence is computed at a time, as on a CPU;
            on a GPU it may be any number.

    Raises:
        PipelineError: there is nothing to train on, or the account does not come out even.
    """
    kind = kind or kind_of(samples)
    encoding = EncodeSettings(
        length=settings.sequence_length, overlap=settings.stride, overlong=settings.overlong,
        template=settings.chat_template if kind == "chat" else None,
    )  # fmt: skip
    examples = [Example(s.id, s.content, s.collection) for s in samples]
    store = open_or_build(folder, examples, tokenizer_path, encoding, jobs)
    statistics = store.statistics()
    _check_not_empty(kind, statistics, settings)
    _warn_of_losses(kind, statistics)
    if kind == "completion":
        _warn_of_joins(samples)
    lengths = store.lengths().tolist()
    # A row of one token has nothing to predict, and alone in a batch it would have no loss.
    rows = [row for row, length in enumerate(lengths) if length > 1]
    names = store.collections()
    groups = [names[row] if weighted else None for row in rows]
    found = sequences_of(
        [lengths[row] for row in rows], settings.sequence_length, groups, packing=packing
    )
    sequences = [[rows[i] for i in sequence] for sequence in found]
    sums = [sum(lengths[row] for row in sequence) for sequence in sequences]
    data = TrainingData(
        kind=kind, store=store, sequences=sequences, packed=packing, lengths=sums,
        trained=_trained(store, sequences, sums), collections=[names[s[0]] for s in sequences],
        ledger={},
    )  # fmt: skip
    # Alone in a batch, a sequence is not padded.
    at_once = settings.micro_batch_size or (1 if one_by_one else None)
    data.ledger = _ledger(data, statistics, padded=at_once != 1)
    return data


def _check_not_empty(kind: Shape, statistics: dict[str, Any], settings: TrainSettings) -> None:
    if statistics["predicted"]:
        return
    count = statistics["examples"]
    noun = NOUNS[kind] + ("" if count == 1 else "s")
    if statistics["dropped"].get(TOO_LONG):
        told = f"The only {noun} is" if count == 1 else f"All {count:,} {noun} are"
        raise PipelineError(
            f"{told} longer than --sequence-length {settings.sequence_length} and dropped.",
            "Raise it, or choose --overlong split.",
        )
    if statistics["dropped"]:
        raise PipelineError(
            f"{f'The only {noun} has no' if count == 1 else f'None of the {count:,} {noun} has a'} "
            f"token to train on within --sequence-length {settings.sequence_length}.",
            "Raise it, or choose --overlong split.",
        )
    raise PipelineError(
        f"There is no {'text' if kind == 'text' else 'record'} to train on.",
        "The training split is empty: add books, or lower the validation share."
        if kind == "text" else "The training split is empty: add records, or lower its share.",
    )  # fmt: skip


def _warn_of_losses(kind: Shape, statistics: dict[str, Any]) -> None:
    left_out = statistics["left_out"]
    if statistics["empty"]:
        ids = ", ".join(left_out[EMPTY])
        warn(f"Empty and not trained on: {ids} ({statistics['empty']} in all).")
    for reason, tokens in statistics["dropped"].items():
        warn(
            f"Not trained on: {tokens:,} tokens {reason.replace('records', NOUNS[kind] + 's')}, "
            f"such as {', '.join(left_out[reason][:_SHOWN_IDS])}."
        )


def _warn_of_joins(samples: Sequence[Sample]) -> None:
    joins = Joins()
    for sample in samples:
        joins.see(sample.content)
    if warning := joins.warning("The training data"):
        warn(warning)


def _trained(store: TokenStore, sequences: list[list[int]], lengths: list[int]) -> list[int]:
    """The tokens that are trained on in each sequence; of texts those that no other row has."""
    if store.row(0)[1] is None:  # as with every other row
        return lengths

    def count(row: int) -> int:
        ids, trained = store.row(row)
        return len(ids) if trained is None else int(trained.sum())

    return [sum(map(count, sequence)) for sequence in sequences]


def _ledger(data: TrainingData, statistics: dict[str, Any], *, padded: bool) -> dict[str, Any]:
    """Where every token went. Raises PipelineError unless that comes out even, to the last."""
    s = statistics
    alone = s["stored"] - data.tokens  # in rows of one token
    dropped = dict(s["dropped"])
    if alone:
        dropped[UNTRAINED] = dropped.get(UNTRAINED, 0) + alone
    positions = len(data.sequences) * max(data.lengths) if padded else data.tokens
    rows = sum(map(len, data.sequences))
    ledger = {
        "kind": data.kind,
        "examples": s["examples"],
        "empty": s["empty"],
        "characters": s["characters"],
        "tokens": s["tokens"],
        "repeated": s["repeated"],
        "dropped": dropped,
        "rows": rows,
        "in_rows": data.tokens,
        "trained": s["predicted"],
        "sequences": len(data.sequences),
        # At least so many of the positions: a batch is only as wide as its longest sequence.
        "real_share": round(data.tokens / positions, 4),
        "empty_examples": s["left_out"].get(EMPTY, []),
    }
    seen = sorted(row for sequence in data.sequences for row in sequence)
    if (
        data.tokens + sum(dropped.values()) != s["tokens"] + s["repeated"]
        or int(data.store.lengths().sum()) != s["stored"]
        or len(seen) != len(set(seen))
        or rows + alone != s["rows"]
    ):
        raise PipelineError(
            f"{s['tokens'] + s['repeated']:,} tokens went in, and {data.tokens:,} with "
            f"{sum(dropped.values()):,} dropped came out.",
            _OWN_FAULT,
        )
    return ledger


def add_sources(
    ledger: dict[str, Any],
    everything: Sequence[Sample],
    held_out: Sequence[Sample],
    without_share: Sequence[Sample],
) -> None:
    """Add to a ledger where the characters of `everything` went that is not trained on.

    `characters_in` are those of all samples as they were read; of these `end_newlines` were taken
    off the ends of texts, and `held_out` and `without_share` (characters and examples) are not in
    the training data. Raises PipelineError unless the rest is what was tokenized, to the last one.
    """
    newlines = sum(sample.end_newlines for sample in everything)
    ledger |= {
        "characters_in": characters_of(everything) + newlines,
        "end_newlines": newlines,
        "held_out": {"characters": characters_of(held_out), "examples": len(held_out)},
        "without_share": {
            "characters": characters_of(without_share), "examples": len(without_share)
        },
    }  # fmt: skip
    left_out = [ledger["held_out"], ledger["without_share"]]
    accounted = ledger["characters"] + newlines + sum(part["characters"] for part in left_out)
    examples = ledger["examples"] + sum(part["examples"] for part in left_out)
    if accounted != ledger["characters_in"] or examples != len(everything):
        raise PipelineError(
            f"{len(everything):,} examples of {ledger['characters_in']:,} characters went in, and "
            f"{examples:,} of {accounted:,} came out.",
            _OWN_FAULT,
        )


def show_examples(
    data: TrainingData, tokenizer: "PreTrainedTokenizerBase", n: int
) -> list[list[tuple[str, bool]]]:
    """The first `n` sequences as text in stretches, each with whether it is trained on."""
    shown = []
    for sequence in data.sequences[:n]:
        stretches: list[tuple[list[int], bool]] = []
        for row in sequence:
            ids, trained = data.store.row(row)
            mask = [i > 0 for i in range(len(ids))] if trained is None else trained.tolist()
            for token, is_trained in zip(ids.tolist(), mask, strict=True):
                if not stretches or stretches[-1][1] != is_trained:
                    stretches.append(([], is_trained))
                stretches[-1][0].append(token)
        shown.append([(_decoded(tokenizer, ids), trained) for ids, trained in stretches])
    return shown


def _decoded(tokenizer: "PreTrainedTokenizerBase", ids: list[int]) -> str:
    return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))
