"""What is asked for by name: codes of languages, however many letters they have."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.preprocessing.language_codes import short_code
from pipeline.preprocessing.recipe import Recipe, Task, facts_of, read_languages, work_on


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("en", "en"), ("eng", "en"), ("ENG", "en"), ("en-GB", "en"), ("pt_BR", "pt"),
        ("fre", "fr"), ("fra", "fr"), ("ger", "de"), ("deu", "de"), ("dut", "nl"), ("chi", "zh"),
        ("gre", "el"), ("lat", "la"), ("fur", "fur"),
        ("English", None), ("e1", None), ("", None), ("\u00e9\u00e8", None),
    ],
)  # fmt: skip
def test_codes_of_three_letters_become_two_where_there_are_two(word: str, code: str | None) -> None:
    assert short_code(word) == code


def test_languages_can_be_asked_for_by_either_code() -> None:
    assert read_languages("eng, fr,FRA,fur") == ("en", "fr", "fur")
    assert read_languages(None) == read_languages(" , ") == ()
    for wrong in ("english", "en-GB", "e"):
        with pytest.raises(UsageError, match="--keep-languages"):
            read_languages(wrong)


def test_a_clean_text_goes_into_a_file_where_a_folder_is_given(tmp_path: Path) -> None:
    raw, folder = tmp_path / "tale.txt", tmp_path / "folder"
    folder.mkdir()
    raw.write_text("It was a dark night, and the wind blew over the moor.\n\n" * 40)
    task = Task(raw, facts_of({}), Recipe(limits=None))

    here, there = work_on(task), work_on(task, folder)

    assert isinstance(here.data, bytes)
    assert isinstance(there.data, Path)
    assert there.data.parent == folder
    assert there.data.read_bytes() == here.data
    assert replace(there, data=here.data) == here
