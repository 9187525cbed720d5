"""The proof over real, tiny models: what it accepts, and that it finds out every kind of damage."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from pipeline.corpus.tokens import plain_ids
from pipeline.errors import PipelineError, UsageError
from pipeline.export import proof as proof_module
from pipeline.export.gguf import quantize
from pipeline.export.proof import Proof, Unproven
from pipeline.export.proof_bounds import Bounds, check_mode, choose_mode
from pipeline.export.proof_subject import Subject, read_subject
from pipeline.export.proof_table import proof_line, proof_table
from pipeline.gguf_reading import open_reader
from pipeline.scoring.bits import Window, save_windows, windows
from tests.tiny_models import documents, smollm2_tokenizer

Load = Callable[[bool], AbstractContextManager[tuple[Any, "torch.dtype | None"]]]
END = 0  # <|endoftext|>, which greedily is what a model writes for which all tokens are alike


def loader(folder: Path, adapter: Path | None = None) -> Load:
    @contextmanager
    def load(wide: bool) -> Iterator[tuple[Any, None]]:
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        yield (PeftModel.from_pretrained(model, adapter) if adapter else model).eval(), None

    return load


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """Two documents that are held out, and what training is supposed to have measured on them."""
    tokenizer = smollm2_tokenizer()
    path = tmp_path_factory.mktemp("subject") / "windows.json"
    save_windows(path, windows(tokenizer, documents(2), length=256, max_tokens=600))
    evaluation = {
        "kind": "text", "prompt": "The lamp went out.",
        "bits_per_byte": {"base": 9.0, "adapter": 9.0},
    }  # fmt: skip
    return read_subject(
        path, evaluation, tokenizer, partial(plain_ids, tokenizer), tails=[[5, 6, 7, END]]
    )


def with_few_texts(subject: Subject) -> Subject:
    """The same with a twentieth of the texts to be tokenized, for tests that are not about them."""
    reading = replace(
        subject.reading, texts=subject.reading.texts[:40], ids=subject.reading.ids[:40]
    )
    return replace(subject, reading=reading)


@pytest.fixture(scope="module")
def started(
    subject: Subject, base: Path, adapter: Path, merged: Path, plain_gguf: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Proof:  # fmt: skip
    """A full proof that has asked the adapter and the merged model."""
    folder = tmp_path_factory.mktemp("proof")
    proof = Proof(subject, Bounds(), folder / "logits", folder / "proof.json")
    log = folder / "log"
    proof.take_models(loader(base, adapter), loader(merged), 10**7, plain_gguf, log)
    return proof


@pytest.fixture
def proof(started: Proof) -> Proof:
    return replace(started, subject=with_few_texts(started.subject), files={})


@pytest.fixture
def damaged(plain_gguf: Path, tmp_path: Path) -> Path:
    return Path(shutil.copyfile(plain_gguf, tmp_path / "damaged.gguf"))


def silenced(path: Path) -> Path:
    """Make all tokens equally likely, so that greedily the model writes token 0."""
    reader = open_reader(path, "r+")
    next(t for t in reader.tensors if t.name == "output_norm.weight").data[:] = 0
    reader.data.flush()
    return path


# --- what is as it should be ----------------------------------------------------------------------


def test_the_merged_model_is_the_adapter_on_its_base(started: Proof) -> None:
    told = started.as_dict()
    compared = told["checks"]["merged_model_is_the_trained_one"]
    assert 0 < compared["kl"] < 0.001
    assert compared["kl"] <= compared["kl_max"]
    assert compared["top1"] > 0.9
    assert told["merged"]["by"] == "transformers, float32"


def test_a_16_bit_gguf_is_the_merged_model_in_every_figure(
    started: Proof, plain_gguf: Path, tmp_path: Path
) -> None:
    proof = replace(started, files={})
    proof.check_file(plain_gguf, "bf16", tmp_path / "log")
    (facts,) = proof.files.values()
    assert abs(facts["bits_per_byte_difference"]) < 0.001
    assert facts["top1"] > 0.95
    assert 0 <= facts["kl"] < 0.001
    assert facts["tokens_per_second"] > 0
    assert facts["sample"].strip()
    ids = facts["checks"]["token_ids"]
    assert ids["equal"] and ids["bytes"] >= 200_000
    assert facts["checks"]["special_tokens"]["eos"] == 2
    assert facts["checks"]["ends"]["places"] == 1


def test_a_quantized_gguf_loses_more_and_is_reported(
    proof: Proof, plain_gguf: Path, tmp_path: Path
) -> None:
    small = tmp_path / "small.gguf"
    quantize(plain_gguf, small, "q4_0", tmp_path / "log")
    proof.check_file(small, "q4_0", tmp_path / "log")
    assert proof.files["small.gguf"]["kl"] > 0.001
    report = {"evaluation": proof.subject.evaluation, "sizes": {"base": 10**6}} | proof.as_dict()
    rows = proof_table(report)["rows"]
    assert [row["model"] for row in rows] == ["base", "adapter", "merged", "small.gguf"]
    assert rows[0]["size"] == "1.0 MB"
    assert rows[1]["KL"] != "-" != rows[3]["KL"]
    assert "are those of the training" in proof_line(report)
    with pytest.raises(PipelineError, match=r"small\.gguf is not the model .*0\.0001 is allowed"):
        replace(proof, bounds=Bounds(bits=0.0001)).check_file(small, "q4_0", tmp_path / "log")


# --- what is not ----------------------------------------------------------------------------------


def test_a_merge_that_left_something_out_is_found(
    subject: Subject, base: Path, adapter: Path, plain_gguf: Path, tmp_path: Path
) -> None:
    proof = Proof(subject, Bounds(), tmp_path / "logits", tmp_path / "proof.json")
    with pytest.raises(PipelineError, match=r"merged model is not .*nats per token") as raised:
        proof.take_models(loader(base, adapter), loader(base), 10**7, plain_gguf, tmp_path / "log")
    assert "proof.json" in str(raised.value.hint)


def test_weights_in_another_order_are_found(proof: Proof, damaged: Path, tmp_path: Path) -> None:
    reader = open_reader(damaged, "r+")
    rows = next(t for t in reader.tensors if t.name == "blk.1.ffn_up.weight").data
    rows[:] = rows[::-1].copy()
    reader.data.flush()
    with pytest.raises(PipelineError, match=r"damaged\.gguf is not the model") as raised:
        proof.check_file(damaged, "bf16", tmp_path / "log")
    assert "0.001 is allowed" in raised.value.message
    assert str(tmp_path / "log") in raised.value.message
    assert proof.as_dict()["files"]["damaged.gguf"]["bits_per_byte_difference"] != 0


def test_another_end_token_is_found(proof: Proof, damaged: Path, tmp_path: Path) -> None:
    reader = open_reader(damaged, "r+")
    reader.fields["tokenizer.ggml.eos_token_id"].parts[-1][:] = 17
    reader.data.flush()
    with pytest.raises(PipelineError, match=r"its EOS is 17 instead of 2"):
        proof.check_file(damaged, "bf16", tmp_path / "log")


def test_another_way_to_split_text_is_found(proof: Proof, damaged: Path, tmp_path: Path) -> None:
    data = damaged.read_bytes()
    assert data.count(b"smollm") == 1
    damaged.write_bytes(data.replace(b"smollm", b"llama3"))  # numbers in threes
    with pytest.raises(PipelineError, match=r"texts are split otherwise, at first '.*instead of"):
        proof.check_file(damaged, "bf16", tmp_path / "log")


def test_a_model_that_no_longer_ends_is_found(
    subject: Subject, plain_gguf: Path, damaged: Path, tmp_path: Path
) -> None:
    """A silenced GGUF stands in for the merged model, which ends each record; the file does not."""
    ids = smollm2_tokenizer()("Who is there? The sea.")["input_ids"]
    record = Window("a", [*ids, END], 9, [False] * 4 + [True] * (len(ids) - 4) + [False])
    path = tmp_path / "windows.json"
    save_windows(path, [record] * 2)
    tokenizer = smollm2_tokenizer()
    records = read_subject(
        path, subject.evaluation | {"kind": "completion"}, tokenizer,
        partial(plain_ids, tokenizer), end_texts=["<|endoftext|>"], tails=[[1, END]],
    )  # fmt: skip
    records = with_few_texts(records)
    assert records.sample.ends == [(0, len(ids)), (1, len(ids))], "of records, not of documents"
    proof = Proof(records, Bounds(bits=100), tmp_path / "logits", tmp_path / "proof.json")
    log = tmp_path / "log"
    proof._take_plain(silenced(damaged), log)
    with pytest.raises(PipelineError, match=r"after 0 of 2 held-out records, .* after 2"):
        proof.check_file(plain_gguf, "bf16", log)
    assert proof.files[plain_gguf.name]["checks"]["ends"]["gguf_ends"] == 0
    proof.check_file(damaged, "bf16", log)
    ends = proof.files[damaged.name]["checks"]["ends"]
    assert (ends["gguf_ends"], ends["stops_by_itself"]) == (2, True)


# --- less than a full proof -----------------------------------------------------------------------


def test_without_the_memory_the_16_bit_gguf_stands_in_and_training_is_the_measure(
    subject: Subject, plain_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof_module, "fits", lambda size: False)
    subject = with_few_texts(subject)
    proof = Proof(subject, Bounds(), tmp_path / "logits", tmp_path / "proof.json")

    def never(wide: bool) -> Any:
        raise AssertionError("it would not fit")

    log = tmp_path / "log"
    proof.take_models(never, never, 10**7, plain_gguf, log)
    told = proof.as_dict()
    assert told["merged"]["by"] == "llama.cpp, 16 bits"
    assert "memory" in told["checks"]["merged_model_is_the_trained_one"]["left_out"]
    with pytest.raises(PipelineError, match=r"training 9\.0000"):
        proof.check_file(plain_gguf, "bf16", log)


@pytest.fixture(scope="module")
def part(subject: Subject) -> Subject:
    """A part of the held-out text, as a quick proof takes it."""
    return with_few_texts(replace(subject, sample=subject.sample.with_tokens(50), whole=False))


def test_a_quick_proof_scores_the_adapter_on_its_part_of_the_text(
    part: Subject, base: Path, adapter: Path, merged: Path, plain_gguf: Path, tmp_path: Path
) -> None:
    proof = Proof(part, Bounds(), tmp_path / "logits", tmp_path / "proof.json", "quick")
    log = tmp_path / "log"
    proof.take_models(loader(base, adapter), loader(merged), 10**7, plain_gguf, log)
    report = {"evaluation": part.evaluation} | proof.as_dict()
    assert report["proven"] and "Merging changed 0.000" in proof_line(report)
    of_adapter, of_merged = proof_table(report)["rows"][1:3]
    bits = [float(row["bits per byte"]) for row in (of_adapter, of_merged)]
    assert bits[0] == pytest.approx(bits[1], abs=0.01)
    assert "-" not in (of_adapter["KL"], of_adapter["to merged"])
    assert "cannot be set beside this: base 9.0000, adapter 9.0000 bits" in proof_line(report)


def test_a_step_without_a_score_is_scored_by_the_proof(
    subject: Subject, base: Path, adapter: Path, merged: Path, plain_gguf: Path, tmp_path: Path
) -> None:
    """Its windows are there, but training had measured nothing when it was saved."""
    evaluation = subject.evaluation | {"bits_per_byte": {"base": None, "adapter": None}}
    few = with_few_texts(replace(subject, evaluation=evaluation))
    proof = Proof(few, Bounds(), tmp_path / "logits", tmp_path / "proof.json", "quick")
    log = tmp_path / "log"
    proof.take_models(loader(base, adapter), loader(merged), 10**7, plain_gguf, log)
    proof.check_file(plain_gguf, "bf16", log)
    report = {"evaluation": evaluation} | proof.as_dict()
    of_base, of_adapter, of_merged = proof_table(report)["rows"][:3]
    bits = [float(row["bits per byte"]) for row in (of_adapter, of_merged)]
    assert report["proven"] and bits[0] == pytest.approx(bits[1], abs=0.01)
    assert of_base["bits per byte"] == "-"
    assert "Training scored neither base nor adapter." in proof_line(report)


def test_where_no_ends_are_known_the_line_under_the_table_says_so(proof: Proof) -> None:
    ends = {"places": 0, "left_out": "no ends of documents are known"}
    checks = {"ends": ends, "token_ids": {"equal": True, "bytes": 9}}
    report = {"evaluation": proof.subject.evaluation} | proof.as_dict()
    report["files"] = {"a.gguf": {"checks": checks}}
    assert proof_line(report).endswith("was not looked at: no ends of documents are known.")


def test_a_quick_proof_finds_a_merge_that_left_something_out(
    part: Subject, base: Path, adapter: Path, plain_gguf: Path, tmp_path: Path
) -> None:
    proof = Proof(part, Bounds(), tmp_path / "logits", tmp_path / "proof.json", "quick")
    with pytest.raises(PipelineError, match=r"merged model is not .*nats per token"):
        proof.take_models(loader(base, adapter), loader(base), 10**7, plain_gguf, tmp_path / "log")


@pytest.mark.parametrize("scored", [None, 9.0])
def test_what_was_never_compared_with_training_is_not_proven(
    part: Subject, plain_gguf: Path, tmp_path: Path, scored: float | None
) -> None:
    """A checkpoint of a step that was not scored, or a part of the text, without the memory."""
    evaluation = part.evaluation | {"bits_per_byte": {"base": 9.0, "adapter": scored}}
    some = replace(part, evaluation=evaluation, whole=scored is None)
    proof = Proof(some, Bounds(), tmp_path / "logits", tmp_path / "proof.json", "quick")
    proof._take_plain(plain_gguf, tmp_path / "log")
    proof.check_file(plain_gguf, "bf16", tmp_path / "log")
    report = {"evaluation": evaluation} | proof.as_dict()
    assert not report["proven"]
    assert "Nothing is proven: merged and trained model were not compared" in proof_line(report)


def test_a_model_of_texts_that_no_longer_ends_is_found(
    subject: Subject, plain_gguf: Path, damaged: Path, tmp_path: Path
) -> None:
    tokenizer = smollm2_tokenizer()
    path = tmp_path / "windows.json"
    save_windows(path, windows(tokenizer, documents(1), length=64, max_tokens=60))
    texts = with_few_texts(
        read_subject(
            path, subject.evaluation, tokenizer, partial(plain_ids, tokenizer),
            tails=[[5, 6, 7, END], [8, 9, END]],
        )
    )  # fmt: skip
    proof = Proof(
        replace(texts, whole=False), Bounds(bits=100), tmp_path / "logits", tmp_path / "proof.json"
    )
    proof._take_plain(silenced(damaged), tmp_path / "log")
    with pytest.raises(PipelineError, match=r"after 0 of 2 documents, the merged model after 2"):
        proof.check_file(plain_gguf, "bf16", tmp_path / "log")


def test_no_proof_is_recorded_as_unproven(plain_gguf: Path, tmp_path: Path) -> None:
    evaluation = {"prompt": "The lamp", "bits_per_byte": {"base": 2.0, "adapter": 1.0}}
    unproven = Unproven(evaluation)
    unproven.check_file(plain_gguf, "bf16", tmp_path / "log")
    report = {"evaluation": evaluation} | unproven.as_dict()
    assert (report["proof"], report["proven"]) == ("none", False)
    assert "Nothing is proven" in proof_line(report)
    assert [row["bits per byte"] for row in proof_table(report)["rows"]][:3] == [
        "2.0000", "1.0000", "-",
    ]  # fmt: skip


def test_a_full_proof_is_the_default_unless_it_takes_minutes() -> None:
    assert choose_mode(None, 135_000_000, 8192, 1) == "full"
    assert choose_mode(None, 8_000_000_000, 8192, 1) == "quick"
    assert choose_mode("full", 8_000_000_000, 8192, 1) == "full"
    with pytest.raises(UsageError, match="Known: full, quick, none"):
        check_mode("some")


def test_bounds_are_those_of_the_type_and_must_make_sense() -> None:
    usual = [Bounds().bits_of(kind) for kind in ("f32", "f16", "bf16", "q8_0", "q4_k_m", "q2_k")]
    assert usual == [0.001, 0.001, 0.001, 0.005, 0.5, 2.0]
    assert Bounds(bits=0.1).bits_of("f16") == 0.1
    for bounds in (Bounds(bits=-1), Bounds(divergence=float("nan")), Bounds(tokens=-1)):
        with pytest.raises(UsageError, match=r"--max-[a-z-]+ must be 0 or more"):
            bounds.check()
