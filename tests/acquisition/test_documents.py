"""Files that are a document each: of every kind, in every encoding, hostile names and all."""

import gzip
import io
import lzma
import zipfile
from pathlib import Path

import pytest

from pipeline.acquisition.documents import Refused, as_document, stem
from pipeline.errors import PipelineError
from pipeline.step1_acquire import acquire
from tests.acquisition.data import counts, names, rows, text

PAGE = b"<!DOCTYPE html><html><body><h1>A Tale</h1><p>It was\ndark.</p><p>End.</p></body></html>"


def epub() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("mimetype", "application/epub+zip")
        file.writestr(
            "META-INF/container.xml",
            '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0">'
            '<rootfiles><rootfile full-path="b.opf" media-type="application/oebps-package+xml"/>'
            "</rootfiles></container>",
        )
        file.writestr(
            "b.opf",
            '<package xmlns="http://www.idpf.org/2007/opf" version="3.0">'
            '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>A Tale</dc:title>'
            "<dc:creator>A. Nobody</dc:creator><dc:language>en</dc:language></metadata>"
            '<manifest><item id="c" href="c.xhtml" media-type="application/xhtml+xml"/></manifest>'
            '<spine><itemref idref="c"/></spine></package>',
        )
        file.writestr("c.xhtml", PAGE.decode())
    return buffer.getvalue()


def test_text_is_kept_byte_for_byte(tmp_path: Path) -> None:
    books = tmp_path / "books"
    (books / "deep" / "er").mkdir(parents=True)
    bodies = {
        "latin.txt": "Das Gespenst möchte heulen.\r\n".encode("latin-1"),
        "bom.txt": b"\xef\xbb\xbfA mark.\n",
        "deep/er/utf16.md": "Wide letters.\n".encode("utf-16"),
        ".hidden.txt": b"Not to be seen.\n",
    }
    for name, body in bodies.items():
        (books / name).write_bytes(body)
    acquire(tmp_path / "data", source=[str(books)])
    assert names(tmp_path / "data") == ["bom.txt", "latin.txt", "utf16.txt"]
    for name in ("bom.txt", "latin.txt"):
        assert (tmp_path / "data" / "1_raw" / name).read_bytes() == bodies[name]
    assert [row["source"] for row in rows(tmp_path / "data")] == [
        "bom.txt", "latin.txt", "utf16.md",
    ]  # fmt: skip


def test_compressed_texts_are_unpacked(tmp_path: Path) -> None:
    body = b"A long story.\n" * 100
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(body))
    (tmp_path / "b.txt.xz").write_bytes(lzma.compress(body))
    acquire(tmp_path / "data", source=[str(tmp_path / "*.txt.*")])
    assert names(tmp_path / "data") == ["a.txt", "b.txt"]
    assert text(tmp_path / "data", "a.txt").encode() == body


def test_books_and_web_pages_become_text_with_their_title(tmp_path: Path) -> None:
    (tmp_path / "tale.epub").write_bytes(epub())
    (tmp_path / "page.html").write_bytes(PAGE)
    acquire(tmp_path / "data", source=[str(tmp_path)])
    for name in ("tale.txt", "page.txt"):
        assert text(tmp_path / "data", name).split("\n\n")[1:] == ["It was dark.", "End.\n"]
    row = next(row for row in rows(tmp_path / "data") if row["file"] == "tale.txt")
    assert (row["title"], row["authors"], row["languages"]) == ("A Tale", ["A. Nobody"], ["en"])


def test_markdown_becomes_text_and_its_front_matter_goes_into_the_catalogue(tmp_path: Path) -> None:
    (tmp_path / "tale.md").write_text(
        "---\ntitle: The Lamp\nauthor: Jane Doe\nlicense: CC-BY\n---\n# I\n\nIt *was*\ndark.\n"
    )
    acquire(tmp_path / "data", source=[str(tmp_path / "*.md")])
    assert text(tmp_path / "data", "tale.txt") == "I\n\nIt was dark.\n"
    (row,) = rows(tmp_path / "data")
    assert (row["title"], row["authors"], row["rights"]) == ("The Lamp", ["Jane Doe"], "CC-BY")


def test_what_a_web_page_says_of_a_file_is_no_title(tmp_path: Path) -> None:
    page = "<title>The Project Gutenberg eBook of The Lamp</title>{}<p>It was dark."
    (tmp_path / "a.html").write_text(page.format("<h1>The Lamp</h1>"))
    (tmp_path / "b.html").write_text(page.format(""))
    acquire(tmp_path / "data", source=[str(tmp_path / "*.html")])
    assert [row["title"] for row in rows(tmp_path / "data")] == ["The Lamp", None]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.txt", b" \n", "empty"),
        ("a.txt", PAGE, "web page"),
        ("a.txt", b"PK\x03\x04zip", "zip archive"),
        ("a.txt", b"\x00\x01" * 99, "not text"),
        ("a.txt.gz", b"not gzip", "compression is damaged"),
        ("a.epub", b"no zip", "EPUB"),
        ("a.html", b"<html><body></body></html>", "text"),
        ("a.jpg", b"\xff\xd8\xff", "image/jpeg"),
        ("a", PAGE[:-7] + b"<script>x</script></html>", None),
        ("a.md", b"---\ntitle: x\n---\n", "no text"),
        ("a.md", b"\x00\x01" * 99, "not text"),
    ],
)
def test_what_is_no_text_is_refused(name: str, data: bytes, reason: str | None) -> None:
    if reason is None:  # a web page without a name is known by its content
        assert b"It was dark." in as_document(data, name).data
        return
    with pytest.raises(Refused) as refusal:
        as_document(data, name)
    assert reason in refusal.value.reason


def test_what_is_refused_is_listed_and_the_rest_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    books = tmp_path / "books"
    books.mkdir()
    (books / "page.txt").write_bytes(PAGE)
    (books / "good.txt").write_text("A good text.\n")
    acquire(tmp_path / "data", source=[str(books)])
    assert names(tmp_path / "data") == ["good.txt"]
    (refused,) = rows(tmp_path / "data", "refused.jsonl")
    assert refused["what"].endswith("page.txt")
    assert "web page" in refused["reason"]
    printed = capsys.readouterr().err
    assert "(1 fetched, 1 refused)" in printed
    assert "refused.jsonl says why" in printed
    assert "1 refused: it is a web page" in printed


def test_a_list_of_refusals_goes_when_nothing_is_refused_any_more(tmp_path: Path) -> None:
    books = tmp_path / "books"
    books.mkdir()
    (books / "a.txt").write_text("A good text.\n")
    (books / "b.txt").write_bytes(b"")
    acquire(tmp_path / "data", source=[str(books)])
    assert rows(tmp_path / "data", "refused.jsonl")
    (books / "b.txt").write_text("Now it has words.\n")
    acquire(tmp_path / "data", source=[str(books)])
    assert not (tmp_path / "data" / "1_raw" / "refused.jsonl").exists()


@pytest.mark.parametrize("name", ["con.txt", "NUL.txt", "lpt1.md"])
def test_no_document_bears_the_name_of_a_device(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("A text.\n")
    acquire(tmp_path / "data", source=[str(tmp_path / name)])
    (taken,) = names(tmp_path / "data")
    assert taken == f"{Path(name).stem.lower()}-text.txt"


@pytest.mark.parametrize(
    ("name", "bare"),
    [("a.txt", "a"), ("my.novel.txt.gz", "my.novel"), ("noted", "noted"), (".txt", ".txt")],
)
def test_a_stem_is_a_name_without_its_suffixes(name: str, bare: str) -> None:
    assert stem(name) == bare


def test_a_trial_run_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    books = tmp_path / "books"
    books.mkdir()
    for n in range(10):
        (books / f"{n}.txt").write_text(f"Text number {n}.\n")
    acquire(tmp_path / "some", source=[str(books)], fraction=0.3)
    assert len(names(tmp_path / "some")) == 3
    assert "7 not sampled" in capsys.readouterr().err
    acquire(tmp_path / "few", source=[str(books)], limit=2)
    assert len(names(tmp_path / "few")) == 2
    assert counts(tmp_path / "few")["not sampled"] == 8


def test_a_folder_beside_texts_keeps_its_tables_to_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("A text.\n")
    (tmp_path / "list.csv").write_text("file,title\na.txt,A\n")
    (tmp_path / "scan.pdf").write_bytes(b"%PDF-1.4")
    acquire(tmp_path / "data", source=[str(tmp_path)])
    assert names(tmp_path / "data") == ["a.txt"]
    said = " ".join(capsys.readouterr().err.split())
    assert "its tables are left alone (list.csv)" in said
    assert f"Files of other kinds in {tmp_path} are left alone: scan.pdf." in said


def test_a_pattern_takes_files_of_any_suffix(tmp_path: Path) -> None:
    for name in ("a.log", "b.log", "c.txt"):
        (tmp_path / name).write_text(f"Text of {name}.\n")
    acquire(tmp_path / "data", source=[str(tmp_path / "{a,b}.log")])
    assert names(tmp_path / "data") == ["a.txt", "b.txt"]


def test_nothing_to_take_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    with pytest.raises(PipelineError, match="books holds no file"):
        acquire(tmp_path / "data", source=[str(tmp_path / "books")])


def test_a_folder_with_odd_signs_in_its_name_is_a_folder(tmp_path: Path) -> None:
    odd = tmp_path / "my [tales] {1}"
    odd.mkdir()
    (odd / "a.txt").write_text("A text.\n")
    (odd / "cover.jpg").write_bytes(b"\xff\xd8\xff")
    acquire(tmp_path / "data", source=[str(odd)])
    assert names(tmp_path / "data") == ["a.txt"]
    assert not rows(tmp_path / "data", "refused.jsonl")


def test_a_place_that_is_not_there_may_end_in_what_was_to_be_its_weight(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="does not exist") as error:
        acquire(tmp_path / "data", source=[str(tmp_path / "novels=2x")])
    assert "If '2x' is to be its weight: a weight is a number" in str(error.value)


def test_a_path_that_ends_like_a_weight_is_explained(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="does not exist") as error:
        acquire(tmp_path / "data", source=[str(tmp_path / "year=2020")])
    assert "2020 was read as its weight" in str(error.value)
