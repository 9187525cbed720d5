"""llama.cpp through its worker process: completions, scores, and what happens when it dies."""

import json
import math
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.errors import PipelineError
from pipeline.export import llama
from pipeline.export.llama import Completion, complete, info, score, tokenize
from pipeline.export.process import python_module
from pipeline.gguf_reading import open_reader

PROMPT = "I was walking on the shore, when I saw something peculiar burrowing in the sand."


def torch_nats(model_dir: Path, windows: list[list[int]]) -> float:
    """What `score` must give, by the Hugging Face model in float32."""
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()
    total = 0.0
    for window in windows:
        ids = torch.tensor([window])
        with torch.no_grad():
            logits = model(ids).logits[0, :-1].double()
        total += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
    return total


@pytest.fixture(scope="module")
def ending_gguf(plain_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for which all tokens are equally likely, so that greedily it writes token 0: end."""
    path = tmp_path_factory.mktemp("ending") / "ending.gguf"
    shutil.copyfile(plain_gguf, path)
    reader = open_reader(path, "r+")
    next(t for t in reader.tensors if t.name == "output_norm.weight").data[:] = 0
    reader.data.flush()
    return path


# --- completing ---------------------------------------------------------------------------------


def test_completion_streams_and_counts(plain_gguf: Path) -> None:
    pieces: list[str] = []
    done = complete(plain_gguf, PROMPT, max_tokens=20, seed=7, on_text=pieces.append)
    assert "".join(pieces) == done.text
    assert len(pieces) > 1
    assert done.tokens == 20
    assert done.finish == "length"
    assert done.prompt_tokens == len(tokenize(plain_gguf, [PROMPT])[0])
    assert done.seconds > 0


def test_seed_decides(plain_gguf: Path) -> None:
    def text(seed: int) -> str:
        return complete(plain_gguf, PROMPT, max_tokens=20, seed=seed, temperature=1.5).text

    assert text(1) == text(1) != text(2)


def test_greedy_completion_is_that_of_the_hugging_face_model(
    plain_gguf: Path, merged: Path
) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(merged)
    ids = tokenizer(PROMPT, return_tensors="pt")
    written = model.generate(**ids, max_new_tokens=12, do_sample=False)[0, ids.input_ids.shape[1] :]
    done = complete(plain_gguf, PROMPT, max_tokens=12, temperature=0, repeat_penalty=1.0)
    assert done.text == tokenizer.decode(written)


def test_end_token_ends_the_completion(ending_gguf: Path) -> None:
    assert info(ending_gguf)["end_texts"][:2] == ["<|endoftext|>", "<|im_end|>"]
    done = complete(ending_gguf, PROMPT, max_tokens=50, temperature=0)
    assert (done.text, done.tokens, done.finish) == ("", 1, "stop")


def test_stop_string_ends_the_completion_and_is_left_out(plain_gguf: Path) -> None:
    whole = complete(plain_gguf, PROMPT, max_tokens=20, seed=7).text
    stop = whole[10:14]
    done = complete(plain_gguf, PROMPT, max_tokens=20, seed=7, stop=["never there", stop, ""])
    assert done.text == whole[: whole.index(stop)]
    assert done.finish == "stop"


def test_full_context_ends_the_completion(plain_gguf: Path) -> None:
    prompt = len(tokenize(plain_gguf, [PROMPT])[0])
    done = complete(plain_gguf, PROMPT, max_tokens=500, context=prompt + 5, seed=1)
    # The last place of the context is read to draw one more token.
    assert (done.tokens, done.finish) == (6, "length")


def test_special_tokens_in_a_prompt_are_text(plain_gguf: Path) -> None:
    prompt = "<|im_start|>user"
    assert tokenize(plain_gguf, [prompt], special=True)[0][0] == 1
    spelled = tokenize(plain_gguf, [prompt])[0]
    assert len(spelled) > 3
    assert complete(plain_gguf, prompt, max_tokens=1).prompt_tokens == len(spelled)


def test_prompts_that_cannot_be_completed_are_refused(plain_gguf: Path) -> None:
    with pytest.raises(PipelineError, match="The prompt is empty"):
        complete(plain_gguf, "", max_tokens=5)
    with pytest.raises(PipelineError, match=r"The prompt has .* tokens, the context only 4"):
        complete(plain_gguf, PROMPT, max_tokens=5, context=4)
    with pytest.raises(PipelineError, match="must be 1 or more, not 0"):
        complete(plain_gguf, PROMPT, max_tokens=0)


# --- stop strings, without a model --------------------------------------------------------------


def until_stop(pieces: list[bytes], stops: list[str]) -> tuple[str, bool]:
    """Run the worker's function in a process, since its module loads llama.cpp."""
    pytest.importorskip("llama_cpp")
    from pipeline.export.llama_worker import until_stop as function

    texts, stopped = zip(*function(iter(pieces), stops), strict=True)
    return "".join(texts), stopped[-1]


def cut(text: str, sizes: list[int]) -> Iterator[bytes]:
    data = text.encode()
    for size in sizes:
        yield data[:size]
        data = data[size:]
    yield data


@given(
    st.text("aé😀b", max_size=12),
    st.lists(st.integers(0, 5), max_size=12),
    st.lists(st.text("aé😀b", min_size=1, max_size=4), max_size=3),
)
@settings(deadline=None)
def test_text_ends_before_the_first_stop_however_it_is_cut(
    text: str, sizes: list[int], stops: list[str]
) -> None:
    found = [text.index(stop) for stop in stops if stop in text]
    written, stopped = until_stop(list(cut(text, sizes)), stops)
    assert stopped == bool(found)
    assert text.startswith(written)
    if not found:
        assert written == text
    else:
        # A piece may complete a later stop before an earlier, longer one is whole.
        assert any(text[len(written) :].startswith(stop) for stop in stops)


# --- scoring ------------------------------------------------------------------------------------


def test_score_is_the_hugging_face_models(plain_gguf: Path, merged: Path) -> None:
    torch.manual_seed(3)
    windows = [torch.randint(5, 49000, (n,)).tolist() for n in (700, 2, 1, 0, 341, 342)]
    nats = score(plain_gguf, windows, None)
    tokens = 699 + 1 + 340 + 341
    expected = torch_nats(merged, [window for window in windows if len(window) > 1])
    assert abs(nats - expected) / tokens / math.log(2) < 0.005


def test_windows_do_not_see_each_other(plain_gguf: Path) -> None:
    one, two = list(range(100, 160)), list(range(300, 350))
    apart = score(plain_gguf, [one], None) + score(plain_gguf, [two], None)
    assert score(plain_gguf, [one, two], None) == pytest.approx(apart, rel=1e-6)


def test_nothing_to_score_is_an_error_and_never_zero(plain_gguf: Path) -> None:
    hopeless: list[list[list[int]]] = [[], [[]], [[5]]]
    for windows in hopeless:
        with pytest.raises(PipelineError, match="no token to score"):
            score(plain_gguf, windows, None)


def test_token_ids_of_another_vocabulary_are_refused(plain_gguf: Path) -> None:
    with pytest.raises(PipelineError, match=r"outside the model's vocabulary of 49,152"):
        score(plain_gguf, [[1, 49152]], None)


# --- what llama.cpp says of a file --------------------------------------------------------------


def test_info_is_what_llama_cpp_loaded(plain_gguf: Path) -> None:
    told = info(plain_gguf)
    assert told["trained_context"] == 1024
    assert told["vocabulary"] == 49152
    assert (told["bos"], told["eos"], told["adds_bos"]) == (1, 2, False)
    assert "BF16" in told["description"]


def test_thread_count_is_within_what_the_machine_has() -> None:
    assert 1 <= llama.thread_count() <= (os.cpu_count() or 1)


# --- when it goes wrong -------------------------------------------------------------------------


def test_killed_worker_is_one_sentence_with_the_log(plain_gguf: Path, tmp_path: Path) -> None:
    others = set(psutil.Process().children())

    def kill_worker(_: str) -> None:
        for child in set(psutil.Process().children()) - others:
            child.send_signal(signal.SIGKILL)

    log = tmp_path / "complete.log"
    with pytest.raises(PipelineError, match=r"^llama\.cpp was killed \(SIGKILL\)") as raised:
        complete(plain_gguf, PROMPT, max_tokens=900, log=log, on_text=kill_worker)
    assert str(log) in raised.value.message
    assert "print_info" in log.read_text()


def test_interrupted_completion_leaves_no_worker(plain_gguf: Path) -> None:
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    before = set(psutil.Process().children())
    with pytest.raises(KeyboardInterrupt):
        complete(plain_gguf, PROMPT, max_tokens=900, on_text=interrupt)
    assert not set(psutil.Process().children()) - before


def test_worker_does_not_outlive_its_parent(tmp_path: Path) -> None:
    """Its stdin closes when the parent is gone, however the parent went."""
    endless = tmp_path / "endless.gguf"
    os.mkfifo(endless)  # llama.cpp waits for ever to open it
    with subprocess.Popen(
        python_module("pipeline.export.llama_worker"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    ) as worker:
        assert worker.stdin is not None
        worker.stdin.write(json.dumps({"op": "info", "gguf": str(endless)}).encode() + b"\n")
        worker.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(timeout=3)
        worker.stdin.close()
        assert worker.wait(timeout=30) == 1


@pytest.mark.parametrize("kept", [0.3, 0.9999])
def test_truncated_gguf_tells_the_tensor_and_the_log(
    kept: float, plain_gguf: Path, tmp_path: Path
) -> None:
    whole = plain_gguf.read_bytes()
    cut_file = tmp_path / "cut.gguf"
    cut_file.write_bytes(whole[: int(len(whole) * kept)])
    log = tmp_path / "log"
    for use in (
        lambda: complete(cut_file, PROMPT, log=log),
        lambda: score(cut_file, [[1, 2]], log),
    ):
        with pytest.raises(PipelineError, match=r"cut\.gguf cannot be loaded: .*error") as raised:
            use()
        assert str(log) in raised.value.message


def test_log_that_nobody_asked_for_is_kept_after_a_failure(
    plain_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    done: Completion = complete(plain_gguf, PROMPT, max_tokens=1)
    assert done.tokens == 1
    assert not list(tmp_path.iterdir())
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(plain_gguf.read_bytes()[:5000])
    with pytest.raises(PipelineError) as raised:
        info(broken)
    (log,) = tmp_path.glob("*.log")
    assert str(log) in raised.value.message


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_file_that_is_no_gguf_is_refused_at_once(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "page.gguf"
    path.write_bytes(content)
    with pytest.raises(PipelineError, match=r"page\.gguf is not a GGUF file"):
        complete(path, PROMPT)
    with pytest.raises(PipelineError, match=r"There is no GGUF file .*nowhere\.gguf"):
        info(tmp_path / "nowhere.gguf")


def test_missing_package_is_told(plain_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama, "find_spec", lambda name: None)
    with pytest.raises(PipelineError, match="llama-cpp-python is not installed"):
        info(plain_gguf)
