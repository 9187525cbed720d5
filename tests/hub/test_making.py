"""What the card tells of the making: enough to repeat it, and nothing private."""

from pipeline.hub.making import ledger_rows, shown_settings


def test_settings_are_told_and_private_places_are_not() -> None:
    shown = shown_settings(
        {
            "acquire": {"topic": "horror", "source": ["/home/ada/diary"], "ids": [84, 345],
                        "mirrors": ["https://u:pw@mirror.example"], "fraction": 1.0},
            "preprocess": {"unwrap": True, "skip_rule": []},
            "chunk": {"chunk_size": 7000, "tokenizer": "/home/ada/models/my-llama", "overlap": 0,
                      "other": "C:\\\\Users\\\\ada\\\\tokenizer"},
        }
    )  # fmt: skip
    assert shown == {
        "acquire": {"topic": "horror", "ids": "84, 345"},
        "preprocess": {"unwrap": True},
        "chunk": {
            "chunk_size": 7000, "tokenizer": "my-llama", "overlap": 0, "other": "tokenizer",
        },
    }  # fmt: skip
    assert "ada" not in str(shown)


def test_the_name_of_a_model_on_the_hub_is_no_path() -> None:
    shown = shown_settings({"chunk": {"tokenizer": "unsloth/Llama-3.2-3B"}})
    assert shown == {"chunk": {"tokenizer": "unsloth/Llama-3.2-3B"}}


def test_the_ledger_adds_up_line_by_line() -> None:
    total = {
        "documents": 2, "characters_in": 1000, "by_hand": -5, "in_chunks": 705, "train": 600,
        "validation": 105, "removed": {"boilerplate": 190, "rejected": 100, "italics": 0},
    }  # fmt: skip
    rows = ledger_rows({"total": total}, {"not": 1})
    numbers = [number for number in rows.values() if isinstance(number, int)]
    assert list(rows) == [
        "characters in the sources", "characters removed (boilerplate)",
        "characters removed (rejected)", "characters added by hand (below zero: taken away)",
        "characters in chunks", "characters in train", "characters in validation",
    ]  # fmt: skip
    assert numbers[0] - numbers[1] - numbers[2] + numbers[3] == numbers[4]


def test_without_a_ledger_the_rules_are_told() -> None:
    counts = {"boilerplate": 7, "italics": {"count": 2, "characters": 4}}
    assert ledger_rows({}, counts) == {
        "characters removed (boilerplate)": 7, "characters removed (italics)": 4,
    }  # fmt: skip
