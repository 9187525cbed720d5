"""What a model card says of texts: what was trained on, what was written, what is copied."""

from collections.abc import Iterator

from pipeline.hub.books import FIRST_BOOKS, MOST_BOOKS_SHOWN
from pipeline.hub.markdown import Markdown, cell, one_line, table
from pipeline.hub.model_tables import memorisation_table, samples_tables
from pipeline.hub.told import Told


def about_data(told: Told) -> Iterator[str]:
    """What the model was trained on: a table of books, or of files of records."""
    yield "## The records" if told.is_of_records else "## The books"
    if not told.books:
        yield (
            f"The model was trained on {told.data_in_words}. The rights in it are to be found "
            "there."
        )
        yield from _unsearched(told)
        return
    shown = told.books if len(told.books) <= MOST_BOOKS_SHOWN else told.books[:FIRST_BOOKS]
    if len(shown) < len(told.books):
        yield f"The first {len(shown)} of {len(told.books):,}."
    if told.is_of_records:
        yield f"The model was trained on {told.data_in_words}, from these files:"
        yield table(
            ("id", "title", "language", "characters", "records", "split", "rights"),
            (
                (
                    Markdown(cell(book.id)), one_line(book.title or ""), book.language or "",
                    book.characters, book.records, book.split, book.rights or "unknown",
                )
                for book in shown
            ),
        )  # fmt: skip
        yield (
            "What is held out (`validation`) was not trained on. What is in the public domain in "
            "one country may be protected in another."
        )
        yield from _unsearched(told)
        return
    yield table(
        ("id", "title", "authors", "language", "characters", "split", "rights"),
        (
            (
                Markdown(cell(book.id)), one_line(book.title or "") or "untitled",
                ", ".join(book.authors), book.language or "", book.characters, book.split,
                book.rights or "unknown",
            )
            for book in shown
        ),
    )  # fmt: skip
    yield (
        "What is held out (`validation`) was not trained on. A work that is in the public domain "
        "in one country may be protected in another."
    )
    yield from _unsearched(told)


def _unsearched(told: Told) -> Iterator[str]:
    if told.unsearched:
        yield (
            f"> {told.unsearched} searched for what must not be published with them when this card "
            "was written: they were not at hand."
        )


def about_samples(told: Told) -> Iterator[str]:
    """What each model wrote after the same prompts, if that is known."""
    if not told.samples:
        return
    yield "## Samples"
    seed = told.settings.get("seed")
    named = f"the seed ({cell(seed)}, where no other is named)"
    if told.evaluation.get("prompts_from"):
        yield (
            f"The prompts are those of held-out records, drawn by their names; {named} was set "
            "before the training. These are the first answers, and none was chosen by hand."
        )
    else:
        yield (
            f"The prompts and {named} were set before the training; these are the first answers, "
            "and none was chosen by hand."
        )
    yield from samples_tables(told.samples)


def about_memorisation(told: Told) -> Iterator[str]:
    """How much of the samples stands in the training text."""
    yield "## Copied from the training text"
    if told.copied is None:
        yield "Not measured: the training text was not at hand when this card was written."
        return
    yield (
        "The longest stretch of each sample that stands word for word in the training text. What "
        "the base model, which did not see it here, has in common with it is the yardstick."
    )
    yield memorisation_table(told.copied)
