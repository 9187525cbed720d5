"""`pipeline inspect`: figures, tokens, steps, boundaries, a phrase and the ledger, all exact."""

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pipeline.cli import make_pipeline
from pipeline.corpus.documents import Document
from pipeline.errors import PipelineError, UsageError
from pipeline.inspection import Inspection, Wanted, as_json, check, draw, inspect_chunks, sections
from pipeline.inspection.lengths import Sized, row_lengths, training_length
from pipeline.printing import print_table
from pipeline.training.settings import TrainSettings
from pipeline.workspace import Workspace

SEA = "The sea rose.\n\n“Who is\nthere?” she asked. "
BOOKS = {
    "tide": ("train", ["The lamp went out. ", SEA, "Who is there?\n"]),
    "moor": ("train", ["It rained on the moor. ", "It rained—and nobody came.\n"]),
    "vault": ("validation", ["The vault was shut.\n", "The vault\nwas open.\n"]),
}
SETTINGS = {"chunk_size": 60, "minimum_size": 20}


def rows_of(name: str, texts: list[str], **more: Any) -> list[dict[str, Any]]:
    rows = []
    start = 0
    for number, text in enumerate(texts):
        end = start + len(text)
        rows.append(
            {"text": text, "document_id": name, "chunk": number, "char_start": start,
             "char_end": end, "is_last": number == len(texts) - 1, "title": f"The {name}",
             "authors": ["A. Writer"], "language": "en"} | more
        )  # fmt: skip
        start = end
    return rows


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / name)
    return folder / name


def characters(split: str) -> int:
    return sum(len("".join(texts)) for s, texts in BOOKS.values() if s == split)


def ledger(**changes: Any) -> dict[str, Any]:
    whole = characters("train") + characters("validation")
    removed = {"boilerplate": 100, "italics": 7, "duplicate": 50, "footnotes": 0}
    total = {
        "documents": 3, "characters_in": whole + 157 - 3, "removed": removed, "by_hand": 3,
        "in_chunks": whole, "train": characters("train"), "validation": characters("validation"),
    }  # fmt: skip
    return {"total": total | changes}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with three small books in chunks, as stage 3 leaves them."""
    folder = tmp_path / "3_chunks"
    for split in ("train", "validation"):
        rows = [
            row for name, (s, texts) in BOOKS.items() if s == split for row in rows_of(name, texts)
        ]
        write(folder, f"{split}-00000-of-00001.parquet", rows)
    record(folder, ledger())
    return tmp_path


def record(folder: Path, accounts: dict[str, Any]) -> None:
    value = {"stage": "chunk", "settings": SETTINGS, "counts": {"ledger": accounts}}
    (folder / "stage.json").write_text(json.dumps(value))


def look(place: Path, **wanted: Any) -> Inspection:
    if (place / "3_chunks").is_dir():
        return inspect_chunks(Workspace(place), None, Wanted(**wanted))
    return inspect_chunks(Workspace(place.parent), place, Wanted(**wanted))


def printed(found: Inspection, capsys: pytest.CaptureFixture[str], **options: Any) -> str:
    for section in sections(found, TrainSettings(), **options):
        print_table(section) if isinstance(section, dict) else print(section)  # noqa: T201
    return capsys.readouterr().out


def words(text: str, beginning: str) -> list[str]:
    """The words of the line that begins so."""
    (line,) = [line for line in text.splitlines() if line.strip().startswith(beginning)]
    return line.split()


# --- sizes ----------------------------------------------------------------------------------------


def test_documents_chunks_and_characters_are_counted_in_each_split(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(look(data), capsys).partition("Ledger")[0]
    assert "3 documents, 7 chunks" in text
    assert words(text, "train")[:4] == ["train", "2", "5", str(characters("train"))]
    assert words(text, "validation")[:4] == ["validation", "1", "2", str(characters("validation"))]


def test_sizes_are_those_of_the_chunks_and_the_short_ones_are_counted(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(look(data), capsys)
    lengths = sorted(len(text) for _, texts in BOOKS.values() for text in texts)
    least, middle, most = str(lengths[0]), str(lengths[3]), str(lengths[-1])
    figures = words(text, "chunk, characters")
    assert (figures[2], figures[4], figures[5], figures[6]) == (
        least, middle, most, str(sum(lengths)),
    )  # fmt: skip
    short = sum(length < 20 for length in lengths)
    assert f"Chunks below the minimum of 20 characters: {short} of 7" in text


def test_the_histogram_has_a_bar_as_long_as_its_share(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"text": "x" * size} for size in (10, 10, 10, 10, 35)]
    text = printed(look(write(tmp_path, "a.parquet", rows)), capsys, width=40)
    bars = [line.count("█") for line in text.splitlines() if "█" in line]
    assert len(bars) == 2
    assert 4 * bars[1] <= bars[0] < 4 * (bars[1] + 1)


def test_chunks_that_were_measured_in_tokens_are_shown_in_tokens(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"chunk_size": 12, "minimum_size": 6, "tokenizer": "gpt2 (1234)"}
    value = {"stage": "chunk", "settings": settings, "counts": {}}
    (data / "3_chunks" / "stage.json").write_text(json.dumps(value))
    text = printed(look(data), capsys)
    assert "Chunks below the minimum of 6 tokens: 5 of 7" in text
    assert "Chunks by size (tokens)" in text


def test_languages_sources_and_works_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of("a", ["x"], language="en", collection="novels", work="a")
    rows += rows_of("b", ["y"], language="en", collection="novels", work="a")
    rows += rows_of("c", ["z"], language=None, collection="letters", work="c")
    text = printed(look(write(tmp_path, "a.parquet", rows)), capsys)
    assert "Languages (documents): en 2, unknown 1" in text
    assert "Sources (documents): novels 2, letters 1" in text
    assert "Works: 2, 1 of them in several documents" in text


def test_every_document_is_listed_if_asked(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "The moor" not in printed(look(data, samples=0), capsys)
    text = printed(look(data, samples=0), capsys, documents=True)
    assert words(text, "vault") == ["vault", "The", "vault", "validation", "2", "40", "11"]


def test_records_are_counted_beside_the_texts(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": "a", "completion": "b"}] * 3
    write(data / "3_chunks", "completion-train-00000-of-00001.parquet", rows)
    write(data / "3_chunks", "completion-validation-00000-of-00001.parquet", rows[:1])
    assert "Records (completion): 3 in train, 1 in validation" in printed(look(data), capsys)


# --- tokens and steps -----------------------------------------------------------------------------


def test_without_a_tokenizer_tokens_are_an_estimate_and_said_to_be(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(look(data), capsys)
    assert "Tokens: estimated at 4.2 characters a token" in text
    assert "Training: about 1 step for 1 epoch" in text


def test_what_stage_3_counted_is_taken_from_its_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of("a", ["one two ", "three"])
    counted = [row | {"tokens": n} for row, n in zip(rows, (700, 500), strict=True)]
    found = look(write(tmp_path, "train.parquet", counted))
    assert found.tokens == "column"
    assert found.token_counts().total == 1200
    assert found.documents["a"].tokens == 1201, "and the end token"
    half = [counted[0], counted[1] | {"tokens": None}]
    assert look(write(tmp_path, "train.parquet", half)).tokens == "estimate"


def test_tokens_and_rows_are_exactly_those_of_stage_6(data: Path, tmp_path: Path) -> None:
    from pipeline.training.data import as_sample
    from pipeline.training.dataset import training_data
    from tests.tiny_models import tiny_tokenizer

    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    found = look(
        data, tokenizer=str(tmp_path / "tokenizer"),
        training=TrainSettings(sequence_length=8, epochs=3.0, batch_size=2),
    )  # fmt: skip
    texts = {name: "".join(texts) for name, (s, texts) in BOOKS.items() if s == "train"}
    documents = [Document(name, text.rstrip("\n")) for name, text in texts.items()]
    expected = training_data(
        [as_sample(document) for document in documents], tmp_path / "tokenizer",
        TrainSettings(sequence_length=8), tmp_path / "tokens",
    )  # fmt: skip
    assert found.tokens == "tokenizer"
    assert sum(found.documents[name].tokens for name in texts) == expected.ledger["tokens"]
    assert found.training is not None
    assert found.training.sequences == len(expected.sequences)
    assert found.training.length.steps == math.ceil(3 * len(expected.sequences) / 2)


def test_steps_follow_from_rows_batch_and_epochs() -> None:
    documents = [
        Sized("a", "train", 900, 250),
        Sized("b", "train", 90, 20),
        Sized("c", "validation", 9, 9),
    ]
    settings = TrainSettings(sequence_length=100, epochs=2.0, batch_size=4)
    training = training_length(documents, settings)
    assert row_lengths(250, 100) == [100, 100, 50]
    assert (training.sequences, training.length.steps, training.held_out) == (3, 2, 0)


def test_weighted_sources_make_as_many_steps_as_in_training() -> None:
    documents = [
        Sized("a", "train", 900, 1000, "novels", 0.9),
        Sized("b", "train", 900, 1000, "letters", 0.1),
        Sized("c", "train", 900, 1000, "secret", 0.0),
        Sized("d", "validation", 9, 9, "novels", 0.9),
    ]
    training = training_length(documents, TrainSettings(sequence_length=100))
    assert training.sequences == 20, "a source of weight 0 is not trained on"
    assert training.length.steps == 20
    with pytest.raises(PipelineError, match="has no weight"):
        training_length([*documents, Sized("e", "train", 9, 9, "more")], TrainSettings())


def test_a_dataset_without_validation_loses_what_stage_6_holds_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row for n in range(5) for row in rows_of(str(n), ["x" * 420])]
    found = look(write(tmp_path, "train.parquet", rows))
    assert found.training is not None
    assert (found.training.sequences, found.training.held_out) == (1, 1)
    assert "will hold out 1 document" in printed(found, capsys)


def test_data_that_cannot_be_trained_on_is_shown_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, "validation.parquet", rows_of("a", ["x"]))
    assert "Training: There is no text to train on." in printed(look(path), capsys)


# --- boundaries -----------------------------------------------------------------------------------


def test_samples_show_both_sides_of_a_boundary(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = look(data, samples=10)
    assert len(found.boundaries) == 4, "as many as there are"
    for boundary in found.boundaries:
        text = "".join(BOOKS[boundary.document_id][1])
        assert text[: boundary.place].endswith(boundary.before)
        assert text[boundary.place :].startswith(boundary.after)
    text = printed(found, capsys)
    assert "tide (The tide), chunk 0 | 1, character 19" in text
    assert "  … The lamp went out. \n  | The sea rose.↵↵“Who is↵there?” she asked. " in text


def test_so_many_samples_as_asked_and_the_same_each_time(data: Path) -> None:
    assert look(data, samples=2).boundaries == look(data, samples=2).boundaries
    assert [len(look(data, samples=n).boundaries) for n in (0, 1, 2)] == [0, 1, 2]


# --- search ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phrase", "hits", "documents"),
    [
        ("the  VAULT was", 2, 1),  # white space, capitals and line ends do not matter
        ('"who is there?"', 1, 1),  # nor do quotes,
        ("rained - and", 0, 0),
        ("rained-and", 1, 1),  # nor dashes
        ("went out. The sea", 1, 1),  # nor where chunks end
        ("who is there", 2, 1),
        ("a.b*c", 0, 0),
    ],
)
def test_a_phrase_is_found_however_it_is_set(
    data: Path, phrase: str, hits: int, documents: int
) -> None:
    (search,) = look(data, search=phrase).searches
    assert (search.hits, len(search.documents)) == (hits, documents)
    for hit in search.first:
        text = "".join(BOOKS[hit.document_id][1])
        assert text[hit.place :].startswith(hit.found)
        assert text[: hit.place].endswith(hit.before)
        chunk = BOOKS[hit.document_id][1][hit.chunk]
        assert chunk[hit.offset :].startswith(hit.found[:3])


def test_the_first_hits_are_shown_and_the_others_counted(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(look(data, search="the vault", hits=1), capsys)
    assert "Search for 'the vault': 2 hits in 1 document" in text
    assert "vault (The vault), chunk 0 + 0, character 0" in text
    assert "[The vault] was shut.↵The vault↵was open.↵" in text
    assert "and 1 more" in text


def test_a_sequence_of_tokens_is_found_where_its_text_is(data: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {word: number for number, word in enumerate(["?", "The", "vault", "was", "shut"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    (search,) = look(data, tokenizer=str(path), search_ids="1, 2 3").searches
    assert [(hit.document_id, hit.chunk, hit.found) for hit in search.first] == [
        ("vault", 0, "The vault was"), ("vault", 1, "The vault\nwas"),
    ]  # fmt: skip
    with pytest.raises(UsageError, match="names 99, but the tokenizer ends at 4"):
        look(data, tokenizer=str(path), search_ids="99")


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted(search_ids="1 2"), "--search-ids needs --tokenizer"),
        (Wanted(training=TrainSettings(epochs=0)), "--epochs must be above 0"),
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(wanted: Wanted, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check(wanted)


def test_looking_for_nothing_is_refused(data: Path) -> None:
    with pytest.raises(UsageError, match="nothing to look for"):
        look(data, search=" \n ")


# --- the ledger -----------------------------------------------------------------------------------


def test_the_ledger_is_shown_rule_by_rule_and_agrees(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(look(data), capsys)
    assert words(text, "boilerplate")[1] == "-100"
    assert words(text, "duplicate documents")[2] == "-50"
    assert words(text, "changed by hand")[3] == "3"
    assert "footnotes" not in text, "a rule that removed nothing is no row"
    assert "The sums agree." in text


def test_each_document_has_its_own_account(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"document_id": "tide", "characters_in": 90, "removed": 10, "by_hand": -2, "train": 78,
         "validation": 0},
        {"document_id": "vault", "characters_in": 40, "removed": 1, "by_hand": 0, "train": 0,
         "validation": 40},
    ]  # fmt: skip
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (data / "3_chunks" / "documents.jsonl").write_text(lines)
    found = look(data, samples=0)
    text = printed(found, capsys, documents=True).partition("Ledger of each document")[2]
    assert words(text, "tide ")[:7] == ["tide", "90", "-10", "-2", "78", "0", "agree"]
    assert words(text, "vault ")[:7] == ["vault", "40", "-1", "0", "0", "40", "do"]
    (tide, _, vault) = as_json(found, TrainSettings(), documents=True)["documents"]
    assert (tide["ledger"]["agrees"], vault["ledger"]["agrees"]) == (True, False)


def test_what_training_has_of_the_held_out_text_is_told(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = {"contamination": {"passages": 40, "in_training": 3}}
    value = {"stage": "chunk", "settings": SETTINGS, "counts": counts}
    (data / "3_chunks" / "stage.json").write_text(json.dumps(value))
    text = printed(look(data), capsys)
    assert "Held-out passages that the training text has too: 3 of 40" in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"characters_in": 1}, "characters should be in chunks, by the rules"),
        ({"train": 1}, "train and validation are 41 characters"),
    ],
)
def test_a_ledger_that_does_not_add_up_is_shown_to_be_wrong(
    data: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, int], said: str
) -> None:
    record(data / "3_chunks", ledger(**changes))
    text = printed(look(data), capsys)
    assert "The sums do not agree: " in text
    assert said in text


def test_files_that_were_changed_since_do_not_agree_with_the_ledger(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of("tide", BOOKS["tide"][1])
    write(data / "3_chunks", "train-00000-of-00001.parquet", rows)
    assert "the files hold" in printed(look(data), capsys)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", '{"stage": "chunk"}',
        '{"stage": "chunk", "settings": {}, "counts": {"ledger": {"total": 7}}}',
    ],
)  # fmt: skip
def test_a_folder_without_a_good_record_is_read_without_a_ledger(
    data: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (data / "3_chunks" / "stage.json").write_text(text)
    shown = printed(look(data), capsys)
    assert "3 documents" in shown
    assert "Ledger" not in shown


# --- places, and what is wrong with them ----------------------------------------------------------


def test_the_dataset_will_do_where_the_chunks_are_gone(data: Path) -> None:
    (data / "4_dataset").mkdir()
    (data / "3_chunks").rename(data / "4_dataset" / "data")
    found = inspect_chunks(Workspace(data), None, Wanted())
    assert found.place == data / "4_dataset"
    assert len(found.documents) == 3


def test_a_data_directory_without_chunks_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="has no chunks to look at") as error:
        inspect_chunks(Workspace(tmp_path), None, Wanted())
    assert "pipeline chunk" in str(error.value.hint)


def test_a_damaged_file_is_one_sentence(data: Path) -> None:
    (path,) = (data / "3_chunks").glob("train*")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(PipelineError, match=r"train-.*\.parquet cannot be read as Parquet"):
        look(data)


def test_a_file_without_text_names_its_columns(tmp_path: Path) -> None:
    path = write(tmp_path, "a.parquet", [{"story": "one", "id": 1}])
    with pytest.raises(PipelineError, match="no column `text`; its columns are: story, id"):
        look(path)


def test_a_tokenizer_that_is_none_is_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(PipelineError, match="tokenizer"):
        look(data, tokenizer=str(tmp_path / "tokenizer.json"))


def test_hostile_titles_stay_on_their_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of("a\x1b[2J", ["one", "two"], title="x\n\x1b[31my")
    text = printed(look(write(tmp_path, "a.parquet", rows), search="one"), capsys, documents=True)
    assert "\x1b" not in text
    assert "x↵" in text


# --- forms ----------------------------------------------------------------------------------------


def test_the_report_is_json_too(data: Path) -> None:
    found = look(data, search="the vault")
    value = json.loads(json.dumps(as_json(found, TrainSettings(), documents=True)))
    assert value["splits"]["train"]["characters"] == characters("train")
    assert value["chunk_characters"]["count"] == 7
    assert value["ledger"]["agrees"] is True
    assert value["searches"][0]["hits"] == 2
    assert [one["document_id"] for one in value["documents"]] == list(BOOKS)
    assert value["training"]["steps"] == 1


def test_a_picture_is_drawn_whole(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "sizes.png"
    draw(look(data), path)
    assert path.read_bytes().startswith(b"\x89PNG")
    many = [row for n in range(30) for row in rows_of(str(n), ["x" * (n + 1)], title="$\\frac 書")]
    draw(look(write(tmp_path / "many", "train.parquet", many)), path)
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match=r"is to end in \.png"):
        check(Wanted(), tmp_path / "sizes.txt")


def test_the_command_prints_plain_text_or_json_to_stdout(data: Path) -> None:
    runner = CliRunner()
    command = ["inspect", "--data-dir", str(data), "--search", "the vault", "--samples", "1"]
    shown = runner.invoke(make_pipeline(), command)
    assert shown.exit_code == 0, shown.output
    assert "3 documents, 7 chunks" in shown.stdout
    assert "─" not in shown.stdout, "no drawing where it is piped"
    shown = runner.invoke(make_pipeline(), [*command, "--json"])
    assert json.loads(shown.stdout)["searches"][0]["hits"] == 2
    assert runner.invoke(make_pipeline(), ["inspect", str(data / "none")]).exit_code == 1
