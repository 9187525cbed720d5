"""Stage 2 as a whole: what is written, left out, counted, and what the next run does again."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.books.boilerplate import tidy_lines
from pipeline.books.decoding import decode
from pipeline.corpus.ledger import account
from pipeline.errors import PipelineError, UsageError
from pipeline.preprocessing import texts as texts_module
from pipeline.preprocessing.recipe import Result, Task
from pipeline.run import StageRun
from pipeline.step2_preprocess import preprocess
from tests.books.wrappings import FINNISH, FOOTERS, HEADERS, PROSE, book
from tests.chain import contents, killed_at

NOUNS = ["lamp", "bell", "road", "house", "storm", "letter", "garden", "window", "river", "candle"]


def tale(seed: int, paragraphs: int = 30) -> str:
    """A text of some hundred words that has no sentence in common with those of other seeds."""
    lines = []
    for number in range(paragraphs):
        one, two = NOUNS[(seed + number) % 10], NOUNS[(seed * 3 + number * 7) % 10]
        lines.append(
            f"In the year {seed * 100 + number} nobody in parish {seed} knew the {one} of\n"
            f"door {number}, "
            f"and the {two} that was {number * seed + seed} years old did not speak of {seed}."
        )
    return "\n\n".join(lines)


class Shelf:
    """A data directory with texts in `1_raw`, and what stage 2 made of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.raw, self.made = root / "1_raw", root / "2_preprocessed"
        self.raw.mkdir(parents=True)

    def put(self, **texts: str) -> None:
        for name, text in texts.items():
            (self.raw / f"{name}.txt").write_text(text)

    def know(self, *rows: dict[str, Any]) -> None:
        """Give stage 1 a catalogue."""
        (self.raw / "catalog.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(self, **options: Any) -> None:
        preprocess(self.root, **{"jobs": 1} | options)

    def report(self) -> dict[str, dict[str, Any]]:
        rows = (self.made / "report.jsonl").read_text().splitlines()
        return {row["document_id"]: row for row in map(json.loads, rows)}

    def pairs(self) -> list[dict[str, Any]]:
        return [json.loads(r) for r in (self.made / "duplicates.jsonl").read_text().splitlines()]

    @property
    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.made / "stage.json").read_text())
        return found

    def kept(self) -> list[str]:
        return sorted(path.stem for path in self.made.glob("*.txt"))

    def verdicts(self) -> dict[str, str]:
        return {name: row["verdict"] for name, row in self.report().items()}

    def contents(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.root).as_posix(): path.read_bytes()
            for path in self.root.rglob("*")
            if path.is_file()
        }


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "data")


def account_holds(shelf: Shelf) -> None:
    """Every character of every text of `1_raw` is accounted for."""
    rows = shelf.report()
    assert set(rows) == {path.stem for path in shelf.raw.glob("*.txt")}
    for name, row in rows.items():
        raw = (shelf.raw / f"{name}.txt").read_bytes()
        text = decode(raw).text
        assert row["characters_in"] in (len(text), len(raw))
        removed = sum(entry["characters"] for entry in row["removed"].values())
        if row["verdict"] == "kept":
            assert row["characters_in"] - removed == row["characters_out"]
            made = (shelf.made / row["file"]).read_text()
            assert len(made) == row["characters_out"]
            assert {"quality", "mentions", "work", "language", "encoding"} <= set(row)
        else:
            assert row["reason"]
            assert (row["characters_out"], row["removed"]) == (0, {})
            assert not (shelf.made / row["file"]).exists()


# --- what is kept, and what is not ----------------------------------------------------------------


def test_each_text_is_kept_or_has_a_sentence_that_says_why_not(shelf: Shelf) -> None:
    shelf.put(
        good=book("2005", tale(1), "2005"),
        page="<html><body><p>" + "A page about a book. " * 100 + "</p></body></html>",
        lost="She found it on Project Gutenberg, and so did I.\n" * 20,
        short="A few words.",
    )
    shelf.run()
    assert shelf.verdicts() == {
        "good": "kept", "lost": "rejected", "page": "rejected", "short": "rejected",
    }  # fmt: skip
    for name in ("lost", "page", "short"):
        sentence = (shelf.made / "rejected" / f"{name}.txt").read_text()
        assert sentence == f"{name}.txt was rejected: {shelf.report()[name]['reason']}.\n"
    counts = shelf.record["counts"]
    assert (counts["documents"], counts["rejected"], counts["texts"]) == (1, 3, 4)
    assert sum(counts["reasons"].values()) == 3
    account_holds(shelf)


def test_nothing_usable_is_an_error_that_names_the_place(shelf: Shelf) -> None:
    shelf.put(short="A few words.")
    with pytest.raises(PipelineError, match="The only text could not") as caught:
        shelf.run()
    assert "rejected" in str(caught.value.hint)


def test_languages_are_told_and_only_those_asked_for_are_kept(shelf: Shelf) -> None:
    finnish = "\n\n".join(f"{FINNISH} {number}" for number in range(8))
    shelf.put(en=tale(1), fi=finnish)
    shelf.run()
    assert {name: row["language"] for name, row in shelf.report().items()} == {
        "en": "en", "fi": "fi",
    }  # fmt: skip
    shelf.run(keep_languages="en,fr")
    assert shelf.kept() == ["en"]
    assert "fi" in shelf.report()["fi"]["reason"]
    assert shelf.record["settings"]["languages"] == ["en", "fr"]


def test_the_catalogue_knows_languages_better_and_of_several_one_will_do(shelf: Shelf) -> None:
    shelf.put(one=tale(1), two=tale(2), three=tale(3))
    languages = {"one.txt": ["fr", "en"], "two.txt": ["en-GB"], "three.txt": ["English"]}
    rows = [{"file": name, "languages": codes} for name, codes in languages.items()]
    (shelf.raw / "catalog.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shelf.run(keep_languages="en")
    assert [row["language"] for row in shelf.report().values()] == ["en", "en", "en"]


@pytest.mark.parametrize("languages", ["english", "e1", "en;fr"])
def test_a_language_is_a_code(shelf: Shelf, languages: str) -> None:
    shelf.put(one=tale(1))
    with pytest.raises(UsageError, match="--keep-languages"):
        shelf.run(keep_languages=languages)


def test_quality_limits_can_be_moved_and_switched_off(shelf: Shelf) -> None:
    shelf.put(good=tale(1), short=tale(2, paragraphs=2))
    shelf.run(minimum_words=200)
    assert shelf.kept() == ["good"]
    assert "200" in shelf.report()["short"]["reason"]
    shelf.run(minimum_words=20)
    assert shelf.kept() == ["good", "short"]
    shelf.run(quality=False, minimum_words=10_000)
    assert shelf.kept() == ["good", "short"]


def test_rules_are_switched_on_and_off_and_the_record_names_those_on(shelf: Shelf) -> None:
    shelf.put(one=f"{tale(1)}\n\nHe did _not_ go--not he.")
    shelf.run(skip_rule=["italics"], with_rule=["dashes"])
    text = (shelf.made / "one.txt").read_text()
    assert "_not_" in text and "--" not in text
    rules = shelf.record["settings"]["rules"]
    assert "dashes" in rules and "italics" not in rules
    with pytest.raises(UsageError, match="--with-rule dashs"):
        shelf.run(with_rule=["dashs"])


def test_mentions_are_counted_and_the_first_are_named_with_file_and_line(
    shelf: Shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "I said to him: you will find it at Project Gutenberg, and he did.\n\n"
    shelf.put(one=book("2022, indented", tale(1) + "\n\n" + said * 5 + tale(2), "2022, indented"))
    shelf.run()
    assert shelf.report()["one"]["mentions"] == shelf.record["counts"]["mentions"] == 5
    lines = (shelf.made / "one.txt").read_text().split("\n")
    first = next(number for number, line in enumerate(lines, 1) if "Gutenberg" in line)
    printed = capsys.readouterr().err
    assert f'one.txt:{first}: speaks of Project Gutenberg: "' in printed
    assert "find it at Project Gutenberg, and he did." in printed
    assert "and 2 more such places" in printed


# --- duplicates -----------------------------------------------------------------------------------


def test_of_two_editions_one_is_kept_and_the_table_says_so(shelf: Shelf) -> None:
    shelf.put(a=book("2005", tale(1), "2005"), b=book("1995", tale(1), "1995"), c=tale(2))
    shelf.run()
    assert shelf.verdicts() == {"a": "kept", "b": "duplicate", "c": "kept"}
    assert not (shelf.made / "b.txt").exists()
    sentence = (shelf.made / "rejected" / "b.txt").read_text()
    assert sentence == "b.txt was left out: its text is the same as that of a.txt.\n"
    rows = shelf.report()
    assert rows["a"]["work"] == rows["b"]["work"] != rows["c"]["work"]
    assert [(pair["dropped"], pair["kept"]) for pair in shelf.pairs()] == [("b", "a")]
    assert shelf.record["counts"]["duplicates"] == 1
    account_holds(shelf)


def test_duplicates_can_be_kept_and_are_listed_all_the_same(shelf: Shelf) -> None:
    shelf.put(a=tale(1), b=tale(1) + "\n\nThe end.")
    shelf.run(duplicates="keep")
    assert shelf.kept() == ["a", "b"]
    assert [pair["dropped"] for pair in shelf.pairs()] == [None]
    works = {row["work"] for row in shelf.report().values()}
    assert len(works) == 1


def test_the_search_for_duplicates_can_be_switched_off(shelf: Shelf) -> None:
    shelf.put(a=tale(1), b=tale(1))
    shelf.run()
    assert shelf.kept() == ["a"]
    shelf.run(duplicates="off")
    assert shelf.kept() == ["a", "b"]
    assert shelf.pairs() == []
    with pytest.raises(UsageError, match="--duplicates 'often' is unknown"):
        shelf.run(duplicates="often")


def test_the_dropped_one_comes_back_when_the_kept_one_goes(shelf: Shelf) -> None:
    shelf.put(a=tale(1), b=tale(1), c=tale(2))
    shelf.run()
    assert shelf.kept() == ["a", "c"]
    (shelf.raw / "a.txt").unlink()
    shelf.run()
    assert shelf.verdicts() == {"b": "kept", "c": "kept"}
    assert not (shelf.made / "rejected" / "b.txt").exists()
    assert "rejected/" not in json.dumps(shelf.record["outputs"])


def test_the_dropped_one_comes_back_when_the_kept_one_becomes_another(shelf: Shelf) -> None:
    shelf.put(a=tale(1), b=tale(1))
    shelf.run()
    shelf.put(a=tale(3))
    shelf.run()
    assert shelf.kept() == ["a", "b"]


@pytest.mark.parametrize("hand", ["deletes", "rewrites"])
def test_the_dropped_one_comes_back_for_a_persons_hand_too(shelf: Shelf, hand: str) -> None:
    shelf.put(a=tale(1), b=tale(1), c=tale(2))
    shelf.run()
    if hand == "deletes":
        (shelf.made / "a.txt").unlink()
    else:
        (shelf.made / "a.txt").write_text(tale(5))
    shelf.run()
    assert "b" in shelf.kept()
    assert shelf.verdicts()["a"] == ("deleted" if hand == "deletes" else "kept")
    before = (shelf.made / "stage.json").read_bytes()
    shelf.run()
    assert (shelf.made / "stage.json").read_bytes() == before


def test_what_a_person_edited_is_never_dropped(shelf: Shelf) -> None:
    shelf.put(a=tale(1), b=tale(2), c=tale(4))
    shelf.run()
    (shelf.made / "b.txt").write_text(tale(1))
    shelf.put(c=tale(3))  # another reason to run
    shelf.run()
    assert shelf.kept() == ["b", "c"]
    assert shelf.report()["a"]["verdict"] == "duplicate"
    assert (shelf.made / "b.txt").read_text() == tale(1)


def test_what_a_person_put_there_counts_and_names_its_work(shelf: Shelf) -> None:
    shelf.put(a=tale(1), c=tale(2))
    shelf.made.mkdir()
    (shelf.made / "mine.txt").write_text(tale(1))
    shelf.run()
    assert shelf.kept() == ["c", "mine"]
    assert shelf.report()["a"]["verdict"] == "duplicate"
    assert shelf.report()["a"]["work"] == "mine"
    assert (shelf.made / "mine.txt").read_text() == tale(1)


def test_what_is_for_evaluation_only_is_never_dropped(shelf: Shelf) -> None:
    shelf.put(a=tale(1), b=tale(1))
    (shelf.raw / "catalog.jsonl").write_text('{"file": "b.txt", "weight": 0}\n')
    shelf.run()
    assert shelf.kept() == ["b"]


# --- doing it again -------------------------------------------------------------------------------


def test_a_second_run_cleans_only_what_changed(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.put(**{f"t{n}": tale(n) for n in range(1, 7)}, copy=tale(1))
    shelf.run()
    worked: list[str] = []
    work_on = texts_module.work_on

    def noting(job: Task | Path, folder: Path | None) -> Result:
        worked.append(job.path.name if isinstance(job, Task) else job.name)
        return work_on(job, folder)

    monkeypatch.setattr(texts_module, "work_on", noting)
    shelf.run()
    assert worked == []
    shelf.put(t3=tale(30))
    shelf.run()
    assert worked == ["t3.txt"]


@pytest.mark.parametrize("write", [1, 3, 4, 5, 6, 7])
def test_killed_at_any_write_the_next_run_gives_the_same_files(
    shelf: Shelf, tmp_path: Path, write: int
) -> None:
    straight = Shelf(tmp_path / "straight")
    for each in (shelf, straight):
        each.put(a=tale(1), b=tale(1), c=tale(2), short="Too short.")
    straight.run()
    killed_at(write, "preprocess", "--data-dir", shelf.root, "--jobs", 1)
    shelf.run()
    assert contents(shelf.made) == contents(straight.made)
    assert shelf.record["status"] == "complete"


@pytest.mark.parametrize("damage", ["gone", "torn", "rubbish"])
def test_a_lost_cache_changes_nothing(shelf: Shelf, damage: str) -> None:
    shelf.put(a=tale(1), b=tale(1), c=tale(2))
    shelf.run()
    (cache,) = (shelf.root / ".cache").glob("sketches*")
    if damage == "gone":
        cache.unlink()
    else:
        data = cache.read_bytes()
        cache.write_bytes(data[: len(data) // 2] if damage == "torn" else b"no database" * 999)
    shelf.put(d=tale(3))
    shelf.run()
    assert shelf.verdicts() == {"a": "kept", "b": "duplicate", "c": "kept", "d": "kept"}


def test_several_processes_make_the_same_files(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts_module, "SMALL", 0)
    other = Shelf(tmp_path / "other")
    for each in (shelf, other):
        each.put(**{f"t{n}": tale(n) for n in range(1, 6)}, copy=tale(1), short="Too short.")
    shelf.run(jobs=1)
    other.run(jobs=2)
    names = ("report.jsonl", "duplicates.jsonl", "t3.txt", "rejected/short.txt")
    assert shelf.kept() == other.kept()
    for name in names:
        assert (shelf.made / name).read_bytes() == (other.made / name).read_bytes()


def test_a_text_deleted_by_hand_stays_deleted_and_is_in_the_account(shelf: Shelf) -> None:
    shelf.put(a=tale(1), b=tale(2))
    shelf.run()
    (shelf.made / "a.txt").unlink()
    shelf.put(b=tale(3))
    shelf.run()
    assert shelf.verdicts() == {"a": "deleted", "b": "kept"}
    assert shelf.record["counts"]["deleted"] == 1
    account_holds(shelf)
    shelf.run(restore_deleted=True)
    assert shelf.kept() == ["a", "b"]


def test_an_edit_is_kept_and_its_mentions_are_counted(shelf: Shelf) -> None:
    shelf.put(a=tale(1), b=tale(2))
    shelf.run()
    edited = shelf.made / "a.txt"
    edited.write_text("I found it at Project Gutenberg.\n\n" + edited.read_text())
    mine = edited.read_bytes()
    shelf.run(unwrap=False)
    assert edited.read_bytes() == mine
    assert shelf.report()["a"]["mentions"] == 1


# --- a person's hand ------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", ["rejected", "duplicate"])
def test_a_text_put_in_where_one_was_left_out_is_a_persons(
    shelf: Shelf, cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = "A few words." if cause == "rejected" else tale(1)
    shelf.put(a=tale(1), c=raw)
    shelf.run()
    assert shelf.verdicts() == {"a": "kept", "c": cause}
    mine = f"I found it at Project Gutenberg.\n\n{tale(7)}"
    (shelf.made / "c.txt").write_text(mine)
    capsys.readouterr()
    shelf.run()
    assert "c.txt:1: speaks of Project Gutenberg" in capsys.readouterr().err
    row = shelf.report()["c"]
    assert (row["verdict"], row["mentions"], row["characters_in"]) == ("kept", 1, len(raw))
    assert account(row, len(mine))["characters_in"] == len(raw)
    before = shelf.contents()
    shelf.run()
    assert shelf.contents() == before
    assert "up to date" in capsys.readouterr().err
    shelf.put(a=tale(7))  # the person's copy stays, and the raw one gives way
    shelf.run()
    assert shelf.verdicts() == {"a": "duplicate", "c": "kept"}
    assert (shelf.made / "c.txt").read_text() == mine
    shelf.put(a=tale(2))
    shelf.run(overwrite_edited=True)
    assert shelf.verdicts() == {"a": "kept", "c": "rejected" if cause == "rejected" else "kept"}
    assert not (shelf.made / "c.txt").exists() or (shelf.made / "c.txt").read_text() != mine


def test_a_duplicate_that_a_person_copied_back_stays(shelf: Shelf) -> None:
    shelf.put(a=tale(1), b=tale(1), c=tale(2))
    shelf.run()
    (shelf.made / "b.txt").write_bytes((shelf.made / "a.txt").read_bytes())
    shelf.run()
    assert shelf.verdicts() == {"a": "duplicate", "b": "kept", "c": "kept"}
    shelf.put(c=tale(3))
    shelf.run()
    assert shelf.kept() == ["b", "c"]


def test_a_text_put_in_before_the_first_run_is_a_persons_too(shelf: Shelf) -> None:
    shelf.put(a="A few words.", b=tale(2))
    shelf.made.mkdir()
    (shelf.made / "a.txt").write_text("Mine.\n")
    shelf.run()
    assert shelf.verdicts() == {"a": "kept", "b": "kept"}
    assert not (shelf.made / "rejected").exists()
    assert account(shelf.report()["a"], 6)["by_hand"] == 6


def test_asked_to_overwrite_the_stage_takes_its_place_back(shelf: Shelf) -> None:
    shelf.put(a=tale(1), c="A few words.")
    shelf.run()
    (shelf.made / "c.txt").write_text(tale(7))
    shelf.run(dry_run=True, overwrite_edited=True)
    assert (shelf.made / "c.txt").exists()
    shelf.run(overwrite_edited=True)
    assert shelf.verdicts() == {"a": "kept", "c": "rejected"}
    assert not (shelf.made / "c.txt").exists()


def test_a_renamed_text_is_not_lost_to_its_edited_former_self(shelf: Shelf) -> None:
    shelf.put(old=tale(1), b=tale(2))
    shelf.run()
    (shelf.made / "old.txt").write_text((shelf.made / "old.txt").read_text() + "\nMine.\n")
    (shelf.raw / "old.txt").rename(shelf.raw / "new.txt")
    shelf.run(overwrite_edited=True)
    assert shelf.kept() == ["b", "new"]
    assert shelf.verdicts() == {"b": "kept", "new": "kept"}


@pytest.mark.parametrize("name", ["a.txt", "a.completion.jsonl"])
def test_what_the_catalogue_says_now_is_true_of_an_edited_document(shelf: Shelf, name: str) -> None:
    shelf.put(a=tale(1), b=tale(2))
    (shelf.raw / "a.completion.jsonl").write_text('{"prompt": "Who?", "completion": "She."}\n')
    shelf.know({"file": name, "rights": "Public domain", "title": "One", "source": "shelf"})
    shelf.run()
    with (shelf.made / name).open("a") as file:
        file.write('{"prompt": "Mine", "completion": "Yes."}\n')
    rights = {"file": name, "rights": "In copyright", "authors": "Me", "languages": ["fre"]}
    shelf.know(rights)
    shelf.run()
    rows = (shelf.made / "report.jsonl").read_text().splitlines()
    (row,) = (row for row in map(json.loads, rows) if row["file"] == name)
    assert (row["rights"], row["authors"], row["language"]) == ("In copyright", ["Me"], "fr")
    assert (row["title"], row["source"]) == ("One", "shelf")
    shelf.know()
    shelf.run()
    rows = (shelf.made / "report.jsonl").read_text().splitlines()
    (row,) = (row for row in map(json.loads, rows) if row["file"] == name)
    assert row["rights"] is None


def test_killed_while_it_takes_a_text_away_it_does_not_blame_a_person(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.put(a=tale(1), b=tale(2, paragraphs=10))
    shelf.run()
    remove = StageRun._remove_unwanted

    def killed(run: StageRun) -> None:
        remove(run)
        raise SystemExit

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(StageRun, "_remove_unwanted", killed)
        shelf.run(minimum_words=400)
    assert shelf.kept() == ["a"]
    shelf.run(minimum_words=400)
    assert shelf.verdicts() == {"a": "kept", "b": "rejected"}
    shelf.run()
    assert shelf.kept() == ["a", "b"]


def test_a_sentence_that_a_person_wrote_in_does_not_bind_the_next_raw_text(shelf: Shelf) -> None:
    shelf.put(a=tale(1), b="A few words.")
    shelf.run()
    (shelf.made / "rejected" / "b.txt").write_text("Ask Anna for another copy.")
    shelf.run(force=True)
    assert shelf.verdicts()["b"] == "rejected"
    shelf.put(b=tale(2))
    shelf.run()
    assert shelf.verdicts()["b"] == "kept"
    assert (shelf.made / "rejected" / "b.txt").read_text() == "Ask Anna for another copy."
    before = shelf.contents()
    shelf.run()
    assert shelf.contents() == before


def test_the_summary_counts_only_what_is_still_a_persons(
    shelf: Shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf.put(a=tale(1), b=tale(2))
    shelf.run()
    (shelf.made / "a.txt").unlink()
    (shelf.made / "b.txt").write_text("Mine.")
    capsys.readouterr()
    shelf.run()
    assert "; 1 edited by hand; 1 deleted by hand" in capsys.readouterr().err
    shelf.run(restore_deleted=True)
    out = capsys.readouterr().err
    assert "; 1 edited by hand" in out and "deleted by hand" not in out
    shelf.run(overwrite_edited=True)
    assert "edited by hand" not in capsys.readouterr().err
    assert shelf.kept() == ["a", "b"]


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are Unicode there")
def test_a_file_name_that_is_no_utf_8_is_rejected_by_name(shelf: Shelf) -> None:
    shelf.put(a=tale(1), b=tale(2))
    (shelf.raw / os.fsdecode(b"bad\xff.txt")).write_text(tale(3))
    (shelf.raw / os.fsdecode(b"short\xff.txt")).write_text("<html><body>" + "<p>x</p>" * 50)
    shelf.run()
    assert sorted(shelf.verdicts().values()) == ["kept", "kept", "rejected", "rejected"]
    sentence = "bad?.txt was rejected: its file name is not UTF-8: give it another.\n"
    assert (shelf.made / "rejected" / os.fsdecode(b"bad\xff.txt")).read_text() == sentence
    before = shelf.contents()
    shelf.run()
    assert shelf.contents() == before


def test_a_catalogue_that_a_person_wrote_is_understood_or_named(shelf: Shelf) -> None:
    shelf.put(a=tale(1))
    row = {"file": "a.txt", "title": 1984, "authors": "Ann", "languages": "eng", "rights": True}
    catalog = shelf.raw / "catalog.jsonl"
    catalog.write_bytes(b"\xef\xbb\xbf" + json.dumps(row).encode())
    shelf.run(keep_languages="en")
    made = shelf.report()["a"]
    facts = [made[name] for name in ("title", "authors", "language", "rights")]
    assert facts == ["1984", ["Ann"], "en", "True"]
    catalog.write_bytes(b'{"file": "b.txt"}\n{"file": "a.txt", "title": "caf\xe9"}\n')
    with pytest.raises(PipelineError, match=r"catalog\.jsonl:2 is not UTF-8"):
        shelf.run()


# --- looking only ---------------------------------------------------------------------------------


def test_a_dry_run_says_what_would_be_and_writes_nothing(
    shelf: Shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf.put(a=tale(1), b=tale(1), short="A few words.")
    before = shelf.contents()
    shelf.run(dry_run=True)
    assert shelf.contents() == before
    assert not shelf.made.exists() and not (shelf.root / ".cache").exists()
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "written" in lines["a.txt"]
    assert "dropped" in lines["b.txt"] and "a.txt" in lines["b.txt"]
    assert "rejected" in lines["short.txt"] and "words" in lines["short.txt"]


def test_a_dry_run_over_a_finished_stage_leaves_all_as_it_was(shelf: Shelf) -> None:
    shelf.put(a=tale(1), b=tale(1), c=tale(2))
    shelf.run()
    (shelf.made / "c.txt").write_text("Mine.")
    shelf.put(d=tale(4))
    before = shelf.contents()
    shelf.run(dry_run=True, unwrap=False)
    shelf.run(dry_run=True)
    assert shelf.contents() == before


def test_a_dry_run_leaves_what_a_person_put_in_before_the_first_run(shelf: Shelf) -> None:
    shelf.put(a="A few words.", b=tale(2))
    shelf.made.mkdir()
    (shelf.made / "a.txt").write_text("Mine.\n")
    before = shelf.contents()
    shelf.run(dry_run=True)
    assert shelf.contents() == before


def test_show_prints_what_was_cut_by_which_rule_and_writes_nothing(
    shelf: Shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = book("2005", f"{tale(1)}\n\nHe did _not_ go.", "2005")
    shelf.put(a=raw)
    before = shelf.contents()
    shelf.run(show="a.txt")
    out = capsys.readouterr().out
    assert shelf.contents() == before
    assert "boilerplate: 2 places" in out and "italics: 1 place, " in out
    number = raw.split("\n").index("He did _not_ go.") + 1
    assert f"@ line {number:,}\n- He did _not_ go.\n+ He did not go." in out
    assert "\x1b" not in out
    assert "shows them" not in out  # everything is there, as stdout is no terminal


def test_on_a_terminal_show_counts_what_it_leaves_out_and_all_shows_it(
    shelf: Shelf, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.put(a=book("2005", "\n\n".join(f"He did _not_ go {n}." for n in range(40)), "2005"))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    shelf.run(show="a")
    assert "--all shows them" in capsys.readouterr().out
    shelf.run(show="a", show_all=True)
    assert "--all shows them" not in capsys.readouterr().out
    with pytest.raises(UsageError, match="--all says how much --show prints"):
        shelf.run(show_all=True)


def test_show_finds_a_book_by_id_or_title_and_lists_several(
    shelf: Shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf.put(
        **{"84-frankenstein": tale(1), "345-dracula": tale(2), "346-dracula-s-guest": tale(3)}
    )
    rows = [{"file": "84-frankenstein.txt", "id": "84", "title": "Frankenstein; or, Prometheus"}]
    (shelf.raw / "catalog.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for wanted in ("84", "prometheus", "FRANKEN"):
        shelf.run(show=wanted)
        assert "84-frankenstein.txt" in capsys.readouterr().out
    with pytest.raises(UsageError, match="2 texts match") as caught:
        shelf.run(show="dracula")
    assert "345-dracula.txt, 346-dracula-s-guest.txt" in str(caught.value.hint)
    with pytest.raises(UsageError, match="no text of that name"):
        shelf.run(show="moby")


def test_show_tells_what_a_person_changed_afterwards(
    shelf: Shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf.put(a=tale(1))
    shelf.run()
    edited = shelf.made / "a.txt"
    edited.write_text(edited.read_text().replace("In the year 103 ", "In a year "))
    shelf.run(show="a")
    out = capsys.readouterr().out
    assert "by hand" in out
    assert "- In the year 103 " in out and "+ In a year " in out


def test_a_rejected_text_is_shown_with_its_reason(
    shelf: Shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf.put(a="<html><body>" + "<p>x</p>" * 50)
    shelf.run(show="a")
    assert "It is rejected: it is a web page" in capsys.readouterr().out


def test_show_says_when_a_text_would_be_left_out_and_why(
    shelf: Shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf.put(a=tale(1), b=tale(1), c="A few words.")
    shelf.run(show="c")
    assert "It is left out: it has" in capsys.readouterr().out
    shelf.run(show="a", keep_languages="fr")
    assert "It is left out: its language is en, and fr is wanted" in capsys.readouterr().out
    shelf.run()
    capsys.readouterr()
    shelf.run(show="a")
    assert "left out" not in capsys.readouterr().out
    shelf.run(show="b")
    assert "b.txt was left out: its text is the same as that of a.txt." in capsys.readouterr().out


# --- the account ----------------------------------------------------------------------------------


def test_the_account_holds_on_real_books(shelf: Shelf, shared_books: Path) -> None:
    for path in shared_books.glob("*.txt"):
        (shelf.raw / path.name).symlink_to(path)
    shelf.run(jobs=None)
    account_holds(shelf)
    assert shelf.record["counts"]["mentions"] == 0
    assert set(shelf.verdicts().values()) == {"kept", "rejected", "duplicate"}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(HEADERS)),
            st.sampled_from(sorted(FOOTERS)),
            st.lists(
                st.sampled_from(
                    [
                        tale(1, 12),
                        tale(2, 12),
                        PROSE,
                        FINNISH,
                        "_A_ [1] b--c  d\t\u00a0e",
                        "  \n \n",
                    ]
                ),
                max_size=4,
            ),
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(
    max_examples=25, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
def test_the_account_holds_on_any_texts(
    tmp_path_factory: pytest.TempPathFactory, made: list[tuple[str, str, list[str]]]
) -> None:
    shelf = Shelf(tmp_path_factory.mktemp("any") / "data")
    for number, (header, footer, body) in enumerate(made):
        shelf.put(**{f"t{number}": book(header, "\n\n".join(body), footer)})
    try:
        shelf.run()
    except PipelineError as error:
        assert "be used" in error.message
    account_holds(shelf)
    for path in shelf.made.glob("*.txt"):
        assert path.read_text() == tidy_lines(path.read_text())
