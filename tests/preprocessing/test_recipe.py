"""What is asked for by name: codes of languages, however many letters they have."""

import pytest

from pipeline.errors import UsageError
from pipeline.preprocessing.language_codes import short_code
from pipeline.preprocessing.recipe import read_languages


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
