"""What goes wrong with the Hub is one sentence with a way out, and without the token."""

from pathlib import Path

import pytest

from tests.corpus.hub_datasets import refusal, texts
from tests.datasets_server import TOKEN, DatasetsServer

# --- who may read


def test_a_dataset_that_is_not_there_or_hidden_names_the_way_in(
    hub: DatasetsServer, cache: Path
) -> None:
    for name in ("ada/none", "ada/private", "no-such-dataset"):
        error = refusal(name, cache)
        assert f"has no dataset {name}, or it is hidden" in error.message
        assert "hf auth login" in str(error.hint)
    assert "hidden" in refusal("ada/private", cache, token="hf_wrong_but_secret").message
    assert "hf_wrong" not in str(refusal("ada/private", cache, token="hf_wrong_but_secret"))


@pytest.mark.parametrize("token", [None, "hf_of_somebody_else", TOKEN])
def test_a_gated_dataset_says_where_to_ask(
    hub: DatasetsServer, cache: Path, token: str | None
) -> None:
    error = refusal("ada/gated", cache, token=token)
    assert "ada/gated is gated" in error.message
    assert "https://huggingface.co/datasets/ada/gated" in str(error.hint)


# --- what is asked for is not there, or damaged


def test_an_unknown_revision_is_named(hub: DatasetsServer, cache: Path) -> None:
    assert "no revision 'v9'" in refusal("ada/tales", cache, revision="v9").message


def test_a_dataset_without_data_says_so(hub: DatasetsServer, cache: Path) -> None:
    assert "ada/nothing has no data files" in refusal("ada/nothing", cache).message


@pytest.mark.parametrize("name", ["ada/damaged", "ada/broken"])
@pytest.mark.parametrize("streaming", [True, False])
def test_damaged_data_is_one_sentence(
    hub: DatasetsServer, cache: Path, name: str, streaming: bool
) -> None:
    assert f"The dataset {name} cannot be read" in refusal(name, cache, streaming=streaming).message


# --- trouble on the way


def test_no_network_is_one_sentence(
    hub: DatasetsServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    error = refusal("ada/tales", cache)
    assert "cannot be reached for the dataset ada/tales" in error.message
    assert "network" in str(error.hint)


def test_too_many_requests_says_how_long_to_wait(hub: DatasetsServer, cache: Path) -> None:
    hub.fail("/api/datasets/", 429, Retry_After="77")
    error = refusal("ada/tales", cache)
    assert "HTTP 429" in error.message
    assert "Wait 77 seconds" in str(error.hint)


def test_trouble_of_the_hub_that_passes_is_waited_for(hub: DatasetsServer, cache: Path) -> None:
    hub.fail("/api/datasets/", 503, times=2)
    assert texts("ada/plain", cache) == ["a"]


def test_trouble_of_the_hub_that_stays_is_told(hub: DatasetsServer, cache: Path) -> None:
    hub.fail("/api/datasets/", 500, times=9)
    assert "trouble of its own" in refusal("ada/plain", cache).message


def test_too_many_requests_in_the_middle_of_a_stream_are_told_in_the_end(
    hub: DatasetsServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    hub.fail("train.jsonl", 429, times=10_000)
    assert "429" in refusal("ada/plain", cache).message
    assert sum(waits) < 600
