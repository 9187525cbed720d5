"""Tokens and training steps: exact with a tokenizer, by stage 3's count, or estimated."""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.corpus.documents import Document
from pipeline.corpus.splits import validation_ids
from pipeline.corpus.statistics import Part
from pipeline.corpus.tokenizing import find_tokenizer, tokenizer_file
from pipeline.errors import PipelineError
from pipeline.training.base_model import DEFAULT_BASE_MODEL, resolve_base_model
from pipeline.training.batches import sequences_of
from pipeline.training.data import choose_schedule, trained_on
from pipeline.training.length import Plan, plan
from pipeline.training.mixture import Mixture
from pipeline.training.settings import TrainSettings

# English prose of the nineteenth century has 4.1 to 4.5 by SmolLM2's tokenizer.
CHARACTERS_PER_TOKEN = 4.2
END_TOKEN = 1
TRAINING_HOLDS_OUT = 0.1  # of a dataset without a validation split, as stage 6 does


@dataclass(frozen=True)
class Encoded:
    """The tokens of a document: their ids, and where each begins and ends in its text."""

    ids: list[int]
    places: list[tuple[int, int]]


class TextTokenizer:
    """A base model's tokenizer: a folder, a tokenizer.json, a Hub id, a *.gguf or "smollm2-135m".

    `cache` is where the last two are unpacked. Raises PipelineError if it is not to be had.
    """

    def __init__(self, name: str, cache: Path) -> None:
        from tokenizers import Tokenizer

        self.name = name
        if name == DEFAULT_BASE_MODEL or Path(name).suffix.lower() == ".gguf":
            found = find_tokenizer(str(resolve_base_model(name, cache, weights=False).path))
        else:
            found = find_tokenizer(name)
        try:
            with TemporaryDirectory() as folder:
                file = tokenizer_file(found, Path(folder))
                self._tokenizer = Tokenizer.from_file(str(file))
        except PipelineError:
            raise
        except Exception as error:  # tokenizers raises nothing more particular
            raise PipelineError(f"The tokenizer {name} cannot be read: it is damaged.") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        special = self._tokenizer.encode("a").special_tokens_mask
        self.before = special.index(0) if 0 in special else 0
        self._tokenizer.encode_special_tokens = True  # "</s>" in a book is plain characters

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def encode(self, text: str) -> Encoded:
        """The tokens of a whole document, as stage 6 makes them, without those around it."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return Encoded(encoding.ids, encoding.offsets)


class Counter:
    """Counts the tokens of chunks and documents.

    `basis` says how: "tokenizer" (exact), "column" (as stage 3 counted them) or "estimate".
    Without a tokenizer it is "column" until a row has no count.
    """

    def __init__(self, tokenizer: TextTokenizer | None = None) -> None:
        self._tokenizer = tokenizer
        self.basis = "column" if tokenizer is None else "tokenizer"
        self._around = END_TOKEN + (tokenizer.before if tokenizer else 0)

    def encode(self, part: Part) -> Encoded | None:
        """The tokens of a document; None without a tokenizer."""
        return self._tokenizer.encode(part.text) if self._tokenizer else None

    def chunks(self, part: Part, encoded: Encoded | None) -> list[int]:
        """The tokens of each chunk: those that begin in it."""
        if encoded is not None:
            # The bytes of one character may be tokens that begin at the same place.
            starts = list(accumulate((start for start, _ in encoded.places), max))
            ends = list(accumulate(part.sizes))
            return [
                bisect_left(starts, end) - bisect_left(starts, end - len(text))
                for end, text in zip(ends, part.texts, strict=True)
            ]
        if None in part.tokens:
            self.basis = "estimate"
        sizes = map(len, part.texts)
        counted = zip(part.tokens, sizes, strict=True)
        return [estimate(size) if count is None else count for count, size in counted]

    def document(self, part: Part, chunks: list[int], encoded: Encoded | None) -> int:
        """The tokens of a document as stage 6 trains on it: with those that begin and end it, and
        without a last line end."""
        text = part.text
        last = len(text.rstrip("\n"))
        if encoded is not None:
            return self._around + sum(start < last for start, _ in encoded.places)
        rows = zip(chunks, part.sizes, part.texts, strict=True)
        return self._around + round(sum(n * size / max(len(text), 1) for n, size, text in rows))


def estimate(characters: int) -> int:
    """About how many tokens so many characters are."""
    return round(characters / CHARACTERS_PER_TOKEN)


@dataclass(frozen=True)
class Sized:
    """A document, or its part in one split, with the tokens that stage 6 makes of it."""

    document_id: str
    split: str
    characters: int
    tokens: int
    collection: str | None = None
    weight: float | None = None


@dataclass(frozen=True)
class Training:
    """What stage 6 would do: sequences of at most `sequence_length` tokens, and steps."""

    sequences: int
    length: Plan
    held_out: int  # documents that stage 6 holds out, as nobody has before


def training_length(documents: Iterable[Sized], settings: TrainSettings) -> Training:
    """How long a run of stage 6 with these settings is.

    Raises PipelineError as stage 6 would: nothing to train on, weights that do not go together.
    """
    sized = list(documents)
    training = [d for d in sized if d.split == "train" and d.weight != 0]
    held_out = 0
    if len(training) == len(sized):
        characters = [(d.document_id, d.characters) for d in training]
        chosen = validation_ids(characters, TRAINING_HOLDS_OUT, settings.seed)
        held_out = len(chosen)
        training = [d for d in training if d.document_id not in chosen]
    tokens = {id(d): d.tokens for d in training}
    as_documents = {
        id(d): Document(d.document_id, "", collection=d.collection, weight=d.weight)
        for d in training
    }
    schedule = choose_schedule(list(as_documents.values()), [], {})
    kept = {id(document) for document in trained_on(as_documents.values(), schedule)}
    lengths: list[int] = []
    collections: list[str | None] = []
    for key, document in as_documents.items():
        if id(document) in kept:
            rows = row_lengths(tokens[key], settings.sequence_length)
            lengths += rows
            collections += [document.collection] * len(rows)
    if not lengths:
        raise PipelineError("There is no text to train on.")
    groups = collections if schedule else [None] * len(lengths)
    sequences = sequences_of(lengths, settings.sequence_length, groups, packing=settings.packing)
    sizes = [sum(lengths[row] for row in sequence) for sequence in sequences]
    if schedule is None:
        return Training(len(sizes), plan(settings, len(sizes), sum(sizes)), held_out)
    per_step = settings.sequences_per_step
    sources = [collections[sequence[0]] for sequence in sequences]
    mixture = Mixture(schedule, sizes, sources, settings.seed, per_step)
    order = mixture.take(tokens=mixture.tokens * (settings.epochs or 1.0))
    read = sum(sizes[sequence] for sequence in order)
    return Training(len(sizes), Plan(len(order) // per_step, read / mixture.tokens, read), held_out)


def row_lengths(tokens: int, length: int) -> list[int]:
    """The lengths of the rows that a document of so many tokens is cut into."""
    full, rest = divmod(tokens, length)
    return [length] * full + ([rest] if rest else [])
