"""What came into `1_raw`, what stood there already, what was refused and why."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from pipeline.acquisition.labels import SAMPLE, bare, lines_of, mark_of, one_line, plain, suffix_of
from pipeline.acquisition.sources import RESERVED, Source
from pipeline.books.naming import safe_stem
from pipeline.console import many, say
from pipeline.errors import PipelineError, UsageError
from pipeline.files import (
    encode_json,
    json_lines,
    sha256_bytes,
    sha256_file,
)
from pipeline.run import StageRun

CATALOG = "catalog.jsonl"
REFUSED = "refused.jsonl"
QUARANTINE = "quarantine.jsonl"
MISSED = "not fetched"  # refused for now, and asked for again next time
EDITABLE = ("title", "authors", "languages", "subjects", "rights")  # in the catalogue, by hand
LEFT = "kept as a person left them"
TAKEN = ("fetched", "already there", "deleted by hand", LEFT)
GONE = "gone from their source"
BEFORE = "refused in earlier runs"
_TRIES = 2  # in two runs
SHOWN = 20  # refusals that are shown one by one; all of them are in the file


@contextmanager
def open_register(run: StageRun) -> Iterator["Register"]:
    """A register for one run of stage 1; its catalogue is written when the block ends well."""
    with run.scratch() as folder:
        register = Register(run, folder)
        try:
            yield register
            register.finish()
        finally:
            register.close()


class Register:
    """Gives documents their names, writes them, and keeps the accounts. See `open_register`."""

    def __init__(self, run: StageRun, folder: Path) -> None:
        self.run = run
        self.folder = folder
        self.read_in_part: set[str] = set()  # marks of places of which only a part was looked at
        self.left_unread: set[str] = set()  # marks of single files and tables that were not
        self._earlier = run.notes()
        self._weights: dict[str, float | None] = {}  # of this run's sources, by mark of the place
        self._names: set[str] = set()  # given in this run
        self._origins: set[str] = set()  # of this run
        self._looked_at: set[str] = set()  # marks of origins that this run took or refused
        self._taken: set[str] = set()  # the same, without suffixes
        self._marks = {bare(name): str(row.get("origin")) for name, row in self._earlier.items()}
        self._known = {
            (str(row.get("origin")), suffix_of(name)): name for name, row in self._earlier.items()
        }
        self._refusals: list[dict[str, Any]] = []
        self._tries = {
            str(row["what"]): row["tries"] for row in self._refused_before()
            if isinstance(row.get("tries"), int)
        }  # fmt: skip
        self._quarantine: IO[bytes] | None = None
        self._tables: set[str] = set()  # whose rows were read in this run

    # --- sources --------------------------------------------------------------------------------

    def claim(
        self, sources: Iterable[Source], origins: Collection[str], *, with_books: bool
    ) -> list[Source]:
        """The sources, each under a collection that no other place has, in earlier runs either.

        `origins` are those of documents that are known to come again. Raises UsageError where
        texts with a weight and texts without one would come together.
        """
        rows = self._earlier.values()
        places = {str(row["collection"]): str(row.get("place")) for row in rows if row.get("place")}
        names = {place: name for name, place in places.items()}
        claimed = []
        for source in sources:
            place, number = mark_of(source.identity), 1
            name = names.get(place) or source.collection
            while name in RESERVED or places.get(name, place) != place:
                number += 1
                name = f"{source.collection}-{number}"
            places[name], names[place] = place, name
            self._weights[place] = source.weight
            claimed.append(replace(source, collection=name))
        self._check_weights({mark_of(origin) for origin in origins}, with_books)
        return claimed

    def _check_weights(self, again: Collection[str], with_books: bool) -> None:
        places = {*self._weights, mark_of(SAMPLE)}  # whose rows are written anew, or go
        others = {
            str(row.get("collection")): row.get("weight")
            for row in self._earlier.values()
            if row.get("place") not in places and row.get("origin") not in again
        }
        if with_books:
            others["the catalogue"] = None
        every = [*others.values(), *self._weights.values()]
        if None in every and any(every):
            plain = next((name for name, weight in others.items() if weight is None), None)
            heavy = next((name for name, weight in others.items() if weight), None)
            raise UsageError(
                f"Texts from {plain or heavy}, of an earlier run, have "
                f"{'no weight' if plain else 'a weight'}, and the sources of this one have "
                f"{'one' if plain else 'none'}.",
                "Name all sources together with a weight each, or use another --data-dir.",
            )

    # --- documents ------------------------------------------------------------------------------

    def name(self, stem: str, origin: str, suffix: str = ".txt") -> str:
        """A file name for what came from `origin`: safe, of no other document, and the one that it
        got in an earlier run (a book's title changes in its catalogue)."""
        mark = mark_of(origin)
        self._looked_at.add(mark)
        known = self._known.get((mark, suffix))
        chosen = bare(known) if known else safe_stem(stem)
        number = 1
        while chosen in self._taken or self._marks.get(chosen, mark) != mark:
            # Two folders, in this run or an earlier one, hold files of one name.
            chosen = f"{safe_stem(stem, longest=66)}-{mark}" + (f"-{number}" if number > 1 else "")
            number += 1
        self._taken.add(chosen)
        self._names.add(chosen + suffix)
        return chosen + suffix

    def plan(self, name: str, key: str) -> str:
        """What is to be done about the document (see `StageRun.plan`); counts it."""
        plan = self.run.plan(name, key)
        words = {"write": "fetched", "deleted": "deleted by hand"}
        self.count(words.get(plan, "already there"))
        return plan

    def wants(self, name: str, key: str) -> bool:
        """Whether the document is still to be had; counts it."""
        return self.plan(name, key) == "write"

    def is_new(self, origin: str) -> bool:
        """Whether nothing of this run came from `origin` yet; from now on something did."""
        if origin in self._origins:
            self.count("named twice")
            return False
        self._origins.add(origin)
        return True

    def describe(self, name: str, about: dict[str, Any]) -> None:
        """Let the row of a document that is there already say what this run says of its source."""
        row = self.run.row(name)
        if row is not None:
            row.update(about)

    def add(self, name: str, data: bytes, key: str, row: dict[str, Any]) -> None:
        """Write a document and its row of the catalogue."""
        facts = {"bytes": len(data), "sha256": sha256_bytes(data), "file": name}
        self._added(self.run.write(name, data, key, plain(row | facts)))

    def add_file(self, name: str, path: Path, key: str, row: dict[str, Any]) -> None:
        """Take a finished file of `folder` as a document."""
        facts = {"bytes": path.stat().st_size, "sha256": sha256_file(path), "file": name}
        self._added(self.run.take(name, path, key, plain(row | facts)))

    def _added(self, written: bool) -> None:
        if not written:  # a person's file stands there
            self.count("fetched", -1)
            self.count(LEFT)

    # --- what is not taken ----------------------------------------------------------------------

    def count(self, word: str, n: int = 1) -> None:
        """Add to one of the run's counts."""
        self.run.counts[word] = self.run.counts.get(word, 0) + n

    def refuse(
        self,
        what: str,
        reason: str,
        *,
        origin: str,
        place: str,
        missed: bool = False,
        doubted: bool = False,
        counted: bool = True,
    ) -> None:
        """Leave a text out, with a word, which stays in the list until `origin`, or all of the
        source `place`, is looked at again. `missed`: it may be there next time. `doubted`: so it
        may, for a server that has enough of us answers with a web page too; one more time is asked.
        `counted`: `wants` has counted it as fetched."""
        what, reason = one_line(what), one_line(reason).rstrip(".")
        tries = self._tries.get(what, 0) + 1
        if counted:
            self.count("fetched", -1)
        self.count("refused")
        if missed or (doubted and tries < _TRIES):
            self.count(MISSED)
        row = {"what": what, "reason": reason, "tries": tries}
        self._refusals.append(row | {"origin": mark_of(origin), "place": mark_of(place)})
        self._looked_at.add(mark_of(origin))
        if len(self._refusals) <= SHOWN:
            self.run.warn(f"{what} was left out: {reason}.")

    def _refused_before(self) -> list[dict[str, Any]]:
        found = (row for _, row in lines_of(self.run.directory / REFUSED))
        return [row for row in found if row and "what" in row]

    def reads(self, table: str, origin: str) -> None:
        """Note that the rows of a table are read in this run: what it had in quarantine is old."""
        self._tables.add(table)
        self._looked_at.add(mark_of(origin))

    def unread(self, table: str) -> None:
        """Take back `reads`: what is there of the table still holds."""
        self._tables.discard(table)

    def quarantine(self, table: str, place: str, reason: str, raw: str) -> None:
        """Keep a bad record aside, for a person to mend."""
        self.count("quarantined")
        row = {"file": table, "place": place, "reason": reason, "raw": raw}
        self._quarantine_file().write(encode_json(plain(row)) + b"\n")

    def _quarantine_file(self) -> IO[bytes]:
        if self._quarantine is None:
            self._quarantine = (self.folder / QUARANTINE).open("wb")
        return self._quarantine

    # --- the end --------------------------------------------------------------------------------

    def finish(self) -> None:
        """Write the catalogue and the lists of what was left out.

        Raises PipelineError if there is nothing to put into the catalogue.
        """
        run, counts = self.run, self.run.counts
        is_empty = not any(counts.get(word) for word in TAKEN)
        if is_empty and run.has_left_all_as_it_was:
            raise self._nothing()
        self._write_lists()
        if is_empty:
            raise self._nothing()
        gone = self._gone()
        if gone:
            counts[GONE] = len(gone)
        earlier = run.carry_on(but=(REFUSED, QUARANTINE, *gone))
        if documents := [name for name in earlier if name != CATALOG]:
            counts["of earlier runs"] = len(documents)
        rows = self._rows()
        counts["documents"] = len(rows)
        counts["records"] = sum(row.get("records", 0) for row in rows)
        counts["bytes"] = sum(row["bytes"] for row in rows)
        run.write(CATALOG, json_lines(rows), merged=True)

    def _write_lists(self) -> None:
        run = self.run
        if len(self._refusals) > SHOWN:
            more = len(self._refusals) - SHOWN
            run.warn(
                f"{many(more, 'more was', 'more were')} left out: see {run.directory / REFUSED}."
            )
        kept = [line for line, row in lines_of(run.directory / REFUSED) if self._still_holds(row)]
        if kept:
            run.counts[BEFORE] = len(kept)
        if self._refusals or kept:
            before = b"".join(line + b"\n" for line in kept)
            run.write(REFUSED, json_lines(self._refusals) + before, merged=True)
        for line, row in lines_of(run.directory / QUARANTINE):
            if row is None or row.get("file") not in self._tables:
                self._quarantine_file().write(line + b"\n")
        if self._quarantine is not None:
            self.close()
            run.take(QUARANTINE, self.folder / QUARANTINE, merged=True)

    def _still_holds(self, row: dict[str, Any] | None) -> bool:
        """Whether a refusal of an earlier run is of what this run did not look at; so is a line
        that a person wrote."""
        if row is None:
            return True
        place, origin = str(row.get("place")), str(row.get("origin"))
        if "origin" not in row or origin in self._looked_at:
            return False
        return not self._was_read(place) or origin in self.left_unread

    def _was_read(self, place: str) -> bool:
        """Whether a place, by its mark, was read to its end in this run."""
        return place in self._weights and place not in self.read_in_part

    def _gone(self) -> list[str]:
        """Documents of earlier runs whose source was read to its end and has them no more; and the
        sample library, once there are texts of one's own."""
        sample = mark_of(SAMPLE) not in self._weights
        gone = []
        for name, row in self._earlier.items():
            place = str(row.get("place"))
            left = self._was_read(place) and not self._is_of_unread(row)
            if (left and name not in self._names) or (sample and place == mark_of(SAMPLE)):
                gone.append(name)
        gone = [name for name in gone if not self.run.is_edited(name)]
        if sample and any(self._earlier[name].get("place") == mark_of(SAMPLE) for name in gone):
            say("The tales of the sample library make room for your own texts.")
        return gone

    def _is_of_unread(self, row: dict[str, Any]) -> bool:
        """Whether a document came from a file or table that this run could not look at."""
        if "row" in row and "table" not in row:  # a catalogue that does not say which table
            return bool(self.left_unread)
        return bool({row.get("origin"), row.get("table")} & self.left_unread)

    def _nothing(self) -> PipelineError:
        counts = self.run.counts
        words = ("refused", "quarantined", "bad records skipped")
        left_out = sum(counts.get(word, 0) for word in words)
        if not left_out:
            return PipelineError(
                "There is no text in what was asked for.",
                "The tables have no rows, or --fraction and --limit take none of them.",
            )
        return PipelineError(
            f"There is no text in what was asked for: {left_out} left out.",
            "The reasons are above.",
        )

    def _rows(self) -> list[dict[str, Any]]:
        """The rows of the catalogue, with what a person changed in it."""
        rows = list(self.run.rows().values())
        mine = {}
        if self.run.is_edited(CATALOG):
            found = (row for _, row in lines_of(self.run.directory / CATALOG) if row)
            mine = {str(row.get("file")): row for row in found}
        for row in rows:
            theirs = mine.get(str(row["file"]), {})
            row.update({name: theirs[name] for name in EDITABLE if name in theirs})
            row["weight"] = self._weights.get(str(row.get("place")), row.get("weight"))
        return rows

    def close(self) -> None:
        """Close what is open."""
        if self._quarantine is not None:
            self._quarantine.close()
