"""Training on prompts with completions, and on chats: the loss is that of the answers alone."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.corpus.encoding import Encoder
from pipeline.errors import PipelineError, UsageError
from pipeline.scoring.bits import load_windows, score_model
from pipeline.training.base_model import BaseModel
from pipeline.training.data import Sample
from pipeline.training.metrics import read_metrics
from pipeline.training.trainer import TrainSettings, show, train
from tests.tiny_models import tiny_llama

SETTINGS = TrainSettings(
    epochs=1, learning_rate=1e-2, rank=4, alpha=8, sequence_length=64, batch_size=40,
    micro_batch_size=2, eval_tokens=400, sample_tokens=5,
)  # fmt: skip
PAIRS = [
    Sample(f"pair-{i}", {"prompt": f"Who is there, {i}?", "completion": " The sea." * (1 + i % 4)})
    for i in range(26)
]
CHATS = [
    Sample(
        f"chat-{i}",
        {
            "messages": [
                {"role": "user", "content": f"Who is there, {i}?"},
                {"role": "assistant", "content": "The sea. " * (1 + i % 3) + "So."},
            ]
        },
    )
    for i in range(16)
]
RECORDS = {"completion": (PAIRS[:20], PAIRS[20:]), "chat": (CHATS[:10], CHATS[10:])}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return tiny_llama(tmp_path_factory.mktemp("tiny") / "model", pad="</s>", adds_bos=False)


def nats_by_hand(base: BaseModel, samples: list[Sample], *, masked: bool) -> float:
    """What the plain model pays per token, each sample alone."""
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    encoder = Encoder(AutoTokenizer.from_pretrained(base.path))
    total, count = 0.0, 0
    for sample in samples:
        encoded = encoder.encode(sample.content)
        with torch.no_grad():
            log_p = model(torch.tensor([encoded.ids])).logits[0].double().log_softmax(-1)
        for i, trained in enumerate(encoded.mask()):
            if i and (trained or not masked):
                total -= log_p[i - 1, encoded.ids[i]].item()
                count += 1
    return total / count


@pytest.mark.parametrize("kind", RECORDS)
@pytest.mark.parametrize("packing", [True, False])
def test_the_loss_of_a_step_is_the_mean_over_the_answers_tokens(
    base: BaseModel, tmp_path: Path, kind: str, packing: bool
) -> None:
    # All records are one step of several batches: packed or padded, each token counts the same.
    training, held_out = RECORDS[kind]
    settings = dataclasses.replace(SETTINGS, packing=packing)
    result = train(settings, training, held_out, base, tmp_path)
    assert result.steps == 1
    assert (result.sequences < len(training)) == packing
    loss = read_metrics(tmp_path / "metrics.jsonl")[0].loss
    expected = nats_by_hand(base, training, masked=True)
    assert loss == pytest.approx(expected, rel=2e-3)
    with_prompts = nats_by_hand(base, training, masked=False)
    assert loss != pytest.approx(with_prompts, rel=2e-3), "else it shows nothing"


@pytest.mark.parametrize("kind", RECORDS)
def test_it_learns_to_answer_and_to_stop(base: BaseModel, tmp_path: Path, kind: str) -> None:
    training, held_out = RECORDS[kind]
    settings = dataclasses.replace(SETTINGS, epochs=25, batch_size=4)
    result = train(settings, training, held_out, base, tmp_path)
    assert result.adapter.bits_per_byte < result.base.bits_per_byte / 2
    tokenizer = AutoTokenizer.from_pretrained(base.path)
    plain = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    ids = Encoder(tokenizer).encode(training[3].content).ids
    assert ids[-1] == tokenizer.eos_token_id

    def chance_of_end(model: Any) -> float:
        with torch.no_grad():
            logits = model(torch.tensor([ids[:-1]])).logits
        return float(logits[0, -1].softmax(-1)[ids[-1]])

    before, after = chance_of_end(plain), chance_of_end(PeftModel.from_pretrained(plain, tmp_path))
    assert before < 0.05
    assert after > 0.5


def test_what_is_left_behind_says_what_it_was_trained_on(base: BaseModel, tmp_path: Path) -> None:
    result = train(SETTINGS, *RECORDS["chat"], base, tmp_path)
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    record = yaml.safe_load((tmp_path / "run.yaml").read_text())
    assert evaluation["kind"] == record["data"]["kind"] == "chat"
    assert "Assistant" in evaluation["chat"]["template"]
    assert evaluation["chat"]["ends"] == ["</s>"]
    tokenizer = AutoTokenizer.from_pretrained(base.path)
    prompt = tokenizer.decode(evaluation["chat"]["prompt_ids"])
    assert (
        prompt
        == evaluation["prompt_in_template"]
        == (f"User:\n{evaluation['prompt']}</s>Assistant:\n")
    )
    asked = [chat.content["messages"][0]["content"] for chat in CHATS[10:]]
    assert set(evaluation["prompts"]) <= set(asked), "what held-out chats ask"
    lines = (tmp_path / "evaluations.jsonl").read_text().splitlines()
    assert all(json.loads(line)["prompts"] == evaluation["turns"] for line in lines)
    ledger = record["data"]
    assert ledger["in_rows"] + sum(ledger["dropped"].values()) == ledger["tokens"]
    assert record["trained"]["real_share_of_positions"] == round(
        result.tokens / result.positions, 4
    )
    held_out = load_windows(tmp_path / "windows.json")
    assert {window.document for window in held_out} <= {c.id for c in CHATS[10:]}
    assert all(window.mask for window in held_out)
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.bfloat16)
    score = score_model(model, held_out)
    assert score.bits_per_byte == pytest.approx(result.base.bits_per_byte, rel=1e-2)


def test_weights_are_shares_of_what_is_trained_on_and_prompts_do_not_count(
    base: BaseModel, tmp_path: Path
) -> None:
    def of(name: str, prompt: str, answer: str) -> list[Sample]:
        content = {"prompt": prompt, "completion": answer}
        return [Sample(f"{name}{i}", content, name, 1.0) for i in range(8)]

    corpus = [*of("long", "who " * 20, " sea"), *of("short", "who", " the sea" * 5)]
    settings = dataclasses.replace(
        SETTINGS, epochs=4, micro_batch_size=1, batch_size=1, sample_tokens=1
    )
    result = train(settings, corpus, PAIRS[20:], base, tmp_path)
    sources = yaml.safe_load((tmp_path / "run.yaml").read_text())["mixture"]["sources"]
    assert abs(sources["long"]["tokens"] - sources["short"]["tokens"]) <= 64
    assert sum(source["tokens"] for source in sources.values()) < result.tokens / 2


@pytest.mark.parametrize(
    ("training", "held_out", "settings", "message"),
    [
        (PAIRS[:3], CHATS[:2], {}, "One run cannot train on chat and completion at once"),
        (PAIRS[:3], [], {}, "There is no held-out record"),
        (PAIRS[:3], PAIRS[3:5], {"chat_template": "plain"}, "--chat-template is for chats"),
        (PAIRS[:3], PAIRS[3:5], {"overlong": "drop", "sequence_length": 8}, "All 3 records are"),
        (CHATS[:3], CHATS[3:], {"chat_template": "{{ messages[0].content }}"}, "leaves out what"),
        (CHATS[:3], CHATS[3:], {"chat_template": "{% for"}, "chat template of .* does not take"),
    ],
)
def test_records_that_cannot_be_trained_on_are_one_sentence(
    base: BaseModel, tmp_path: Path, training: list[Sample], held_out: list[Sample],
    settings: dict[str, Any], message: str,
) -> None:  # fmt: skip
    with pytest.raises(PipelineError, match=message):
        train(dataclasses.replace(SETTINGS, **settings), training, held_out, base, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "wrong", [{"overlong": "wrap"}, {"eos": "line"}, {"stride": 64}, {"stride": -1}]
)
def test_settings_of_the_data_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"--{next(iter(wrong))}"):
        dataclasses.replace(SETTINGS, **wrong).check()


def test_the_same_data_is_tokenized_once(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, held_out = RECORDS["completion"]
    first = show(SETTINGS, training, held_out, base, 3, tmp_path / "tokens")
    monkeypatch.setattr("pipeline.corpus.token_cache._build", lambda *_: pytest.fail("again"))
    assert show(SETTINGS, training, held_out, base, 3, tmp_path / "tokens") == first
    assert first[0][0][1] is False
    assert first[0][1] == (" The sea.</s>", True)


@pytest.mark.parametrize("pad", [None, "<pad>"])
def test_any_pad_token_will_do(tmp_path: Path, pad: str | None) -> None:
    base = tiny_llama(tmp_path / "model", pad=pad, pad_is_first=True)
    settings = dataclasses.replace(SETTINGS, packing=False, max_steps=1, epochs=None)
    train(settings, *RECORDS["completion"], base, tmp_path / "out")
    padding = yaml.safe_load((tmp_path / "out" / "run.yaml").read_text())["data"]["padding"]
    assert padding.startswith("the tokenizer's own, <pad>" if pad else "the end token </s>")
