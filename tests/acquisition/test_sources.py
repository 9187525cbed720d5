"""What --source means: a place, a kind, a short name, a weight."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.acquisition.options import Sampler, limits
from pipeline.acquisition.sources import no_weight, parse_sources, split_weight
from pipeline.errors import UsageError


@pytest.mark.parametrize(
    ("text", "place", "weight"),
    [
        ("novels", "novels", None),
        ("novels=0.3", "novels", 0.3),
        ("novels=0", "novels", 0.0),
        ("novels=.5", "novels", 0.5),
        ("a=b/novels=2", "a=b/novels", 2.0),
        ("s3://bucket/k.jsonl.gz=1e-1", "s3://bucket/k.jsonl.gz", 0.1),
        ("novels=", "novels=", None),
        ("novels=some", "novels=some", None),
        ("https://host/x?page=2", "https://host/x?page=2", None),
        ("https://host/x.txt=2", "https://host/x.txt", 2.0),
    ],
)
def test_a_weight_stands_behind_the_last_equals_sign(
    text: str, place: str, weight: float | None
) -> None:
    assert split_weight(text) == (place, weight)


def test_a_file_that_is_really_called_so_has_no_weight(tmp_path: Path) -> None:
    path = tmp_path / "x=0.3"
    path.write_text("Text.\n")
    assert split_weight(str(path)) == (str(path), None)


@pytest.mark.parametrize("weight", ["-1", "-0.5", "1e999"])
def test_a_weight_that_makes_no_sense_is_refused(weight: str) -> None:
    with pytest.raises(UsageError, match="a weight must be 0 or more"):
        split_weight(f"novels={weight}")


@pytest.mark.parametrize("weight", ["2x", "", "0,5", "50%", "1/2"])
def test_what_is_no_weight_is_told_with_one_that_is(tmp_path: Path, weight: str) -> None:
    with pytest.raises(UsageError, match=f"'{weight}' is no weight") as error:
        split_weight(f"{tmp_path}={weight}")
    assert "such as 0.3 in my-novels=0.3" in str(error.value)


@pytest.mark.parametrize(
    "address",
    ["https://host/x.txt?key=5ecret", "https://bob:pa=5ecret@host/x.txt", "novels=0.3", "novels"],
)
def test_the_end_of_a_query_or_a_password_is_no_bad_weight(address: str) -> None:
    assert no_weight(address) is None


def test_either_all_sources_have_a_weight_or_none() -> None:
    with pytest.raises(UsageError, match="a has a weight and b has none"):
        parse_sources(["a=1", "b"])
    assert [s.weight for s in parse_sources(["a=1", "b=2"])] == [1.0, 2.0]


def test_a_source_for_evaluation_only_needs_no_weights_beside_it() -> None:
    assert [s.weight for s in parse_sources(["a", "b=0"])] == [None, 0.0]


def test_something_must_be_trained_on() -> None:
    with pytest.raises(UsageError, match="nothing to train on"):
        parse_sources(["a=0", "b=0"])


def test_a_source_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="a is given twice"):
        parse_sources(["a", "a"])


@pytest.mark.parametrize(
    ("places", "names"),
    [
        (["/home/me/My Novels"], ["my-novels"]),
        (["a/x.jsonl.gz", "b/x.csv"], ["x", "x-2"]),
        (["s3://bucket/train/part-{1..32}.jsonl"], ["train"]),
        (["books/*.txt"], ["books"]),
        (["user/my_dataset"], ["my-dataset"]),
        (["https://host/"], ["host"]),
        (["/"], ["texts"]),
        (["мир", "война"], ["texts", "texts-2"]),
    ],
)
def test_a_collection_has_a_short_name_of_its_own(places: list[str], names: list[str]) -> None:
    assert [source.collection for source in parse_sources(places)] == names


def test_a_name_with_one_slash_that_is_no_path_is_a_dataset_of_the_hub(tmp_path: Path) -> None:
    here = tmp_path / "texts"
    here.mkdir()
    kinds = [s.kind for s in parse_sources(["user/name", str(here)], ["s3://b/{segment_number}"])]
    assert kinds == ["hub", "files", "series"]


@given(st.integers(0, 300), st.floats(0.01, 1.0), st.none() | st.integers(1, 50))
def test_a_trial_run_takes_its_share_evenly(n: int, fraction: float, limit: int | None) -> None:
    sampler = Sampler(limit, fraction)
    taken = [i for i in range(n) if sampler.takes()]
    due = n * fraction
    expected = min(len(taken) if limit is None else limit, n)
    assert len(taken) <= expected
    if limit is None:
        assert due <= len(taken) + 1e-6 < due + 1.001
    if n:
        assert taken[0] == 0


@given(st.none() | st.integers(1, 100), st.integers(1, 9))
def test_a_limit_is_shared_out_whole(limit: int | None, sources: int) -> None:
    shares = limits(limit, sources)
    if limit is None:
        assert shares == [None] * sources
    else:
        numbers = [share or 0 for share in shares]
        assert sum(numbers) == limit
        assert max(numbers) - min(numbers) <= 1
