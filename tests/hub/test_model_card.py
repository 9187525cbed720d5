"""The card of a model: complete, true to what was recorded, and not to be broken by any words."""

import re
from html import unescape
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.hub.books import Book
from pipeline.hub.markdown import code_block, one_line
from pipeline.hub.model_card import licence_fields, model_card
from pipeline.hub.provenance import Provenance
from pipeline.hub.told import Told
from tests.hub.test_card import HOSTILE, TITLES

GGUF, SMALL = "tales-Q8_0.gguf", "tales-Q4_K_M.gguf"
BOOKS = [
    Book("84", "Frankenstein", ["Mary Shelley"], "en", None, "public domain in the USA", 400, 4),
    Book("932", "Usher", ["E. A. Poe"], "en", None, "Public domain", 100, 1, "validation"),
]
EVALUATION: dict[str, Any] = {
    "kind": "text",
    "held_out": {"documents": ["932"], "bytes": 1600, "tokens": 400},
    "bits_per_byte": {"base": 1.3451, "adapter": 1.2599},
    "prompt": "It was late.",
    "sequence_length": 512,
    "settings": {"method": "lora", "rank": 64, "seed": 42, "from_scratch": None},
}
PROOF: dict[str, Any] = {
    "name": "tales",
    "base_model": {"name": "ada/base", "source": "Hugging Face Hub", "licence": "apache-2.0",
                   "revision": "0123abc"},
    "files": {GGUF: {"bits_per_byte": 1.26, "bits_per_byte_difference": 0.0001, "top1": 0.998,
                     "kl": 0.0002, "tokens_per_second": 128.0},
              SMALL: {"bits_per_byte": 1.2719}},
    "end_tokens": ["<|im_end|>"],
    "context": 512,
}  # fmt: skip
ORIGIN = Provenance(
    settings="train:\n  rank: 64\n", command="pipeline all --config settings.yaml",
    versions={"bookshelf-llm": "0.1.0"}, data=("ab12", 2), data_command="sha256sum data/*",
)  # fmt: skip


def told(**more: Any) -> Told:
    files = {GGUF: 9, SMALL: 5, "Modelfile": 3, "loss.png": 2}
    values: dict[str, Any] = {
        "name": "tales", "proof": PROOF, "evaluation": EVALUATION, "run": {}, "books": BOOKS,
        "provenance": ORIGIN, "files": files, "modelfile": "FROM ./x",
        "samples": [("It was late.", {"base model": "So?", "trained model": "The door\nfell."})],
        "copied": [("1. trained model", {"words": {"length": 3, "text": "the old house",
                                                   "title": "Frankenstein"},
                                         "characters": {"length": 14}})],
    }  # fmt: skip
    return Told(**{**values, **more})


def section(text: str, heading: str) -> str:
    return text.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of each row of the tables under a heading, as a reader sees them."""
    lines = [line for line in section(text, heading).splitlines() if line.startswith("|")]
    return [[unescape(c.strip()) for c in line.split("|")[1:-1]] for line in lines]


def test_the_front_matter_is_what_the_hub_reads() -> None:
    data = ModelCard(model_card(told(dataset_id="ada/books", repo_id="ada/tales"))).data
    found = data.to_dict()
    index = found.pop("model-index")
    assert found == {
        "base_model": "ada/base", "base_model_relation": "finetune", "datasets": ["ada/books"],
        "language": ["en"], "library_name": "gguf", "license": "apache-2.0",
        "pipeline_tag": "text-generation",
        "tags": ["gguf", "llama.cpp", "ollama", "fine-tuned", "lora", "text-completion"],
    }  # fmt: skip
    (result,) = index[0]["results"]
    assert [m["value"] for m in result["metrics"]] == [1.2599, 1.26, 1.2719], "the base is not ours"


def test_a_base_model_that_is_not_on_the_hub_is_named_in_the_text_alone() -> None:
    local = {"name": "my-llama", "source": "local directory", "licence": None}
    text = model_card(told(proof=PROOF | {"base_model": local}))
    data = ModelCard(text).data.to_dict()
    assert "base_model" not in data
    assert "base_model_relation" not in data
    assert data["license"] == "unknown"
    assert "my-llama, fine-tuned" in text
    assert "local directory" not in text
    unpacked = {"name": "ada/base", "source": "base.Q4_1.gguf, dequantized"}
    text = model_card(told(proof=PROOF | {"base_model": unpacked}))
    assert "training began with: base.Q4_1.gguf, dequantized." in text
    new = EVALUATION | {"settings": {"from_scratch": "abc", "method": "lora"}}
    text = model_card(told(evaluation=new))
    assert "trained from nothing" in text
    assert "base_model" not in ModelCard(text).data.to_dict()


def test_scores_of_all_models_stand_in_one_table() -> None:
    header, _, *found = rows(model_card(told()), "Scores")
    assert header == [
        "model", "bits per byte", "above the merged model", "same next token", "mean KL",
        "tokens per second",
    ]  # fmt: skip
    assert found == [
        ["base model", "1.3451", "", "", "", ""],
        ["trained model", "1.2599", "", "", "", ""],
        [GGUF, "1.2600", "+0.0001", "99.80%", "0.0002", "128.0"],
        [SMALL, "1.2719", "", "", "", ""],
    ]
    merged = model_card(told(proof=PROOF | {"merged": {"bits_per_byte": 1.2598}}))
    assert ["merged, 16 bits", "1.2598", "", "", "", ""] in rows(merged, "Scores")
    assert "All on the same held-out text (1,600 bytes of 1 document)" in merged
    quick = model_card(told(proof=PROOF | {"text": {"whole": False, "bytes": 400}}))
    assert "All on the same" not in quick
    assert "the others on 400 bytes of it" in quick
    metrics = yaml.safe_load(quick.split("\n---\n")[0])["model-index"][0]["results"][0]["metrics"]
    assert [one["name"] for one in metrics] == [
        "Bits per byte (trained model)",
        f"Bits per byte ({GGUF}) on 400 bytes of it", f"Bits per byte ({SMALL}) on 400 bytes of it",
    ]  # fmt: skip


def test_a_proof_is_told_whatever_it_holds_and_its_lack_is_said() -> None:
    checks = {"tokenizer_ids": True, "bos": {"passed": True, "id": 1}, "logits": 0.00012, "x": None}
    files = {GGUF: {"bits_per_byte": 1.26, "checks": [{"name": "stops", "passed": False}]}}
    bounds = {"max_bits_lost": 0.1, "max_merge_divergence": None}
    proof = PROOF | {"proof": "full", "checks": checks, "files": files, "bounds": bounds}
    text = model_card(told(proof=proof))
    assert rows(text, "Proof")[2:] == [
        ["bound set by hand: max bits lost", "0.1"],
        ["tokenizer ids", "passed"], ["bos", "passed; id 1"], ["logits", "0.00012"],
        ["x", "not checked"], [f"{GGUF}: stops", "failed"],
    ]  # fmt: skip
    assert "(full)" in section(text, "Proof")
    assert "nproven" not in text
    text = model_card(told(proof=PROOF | {"proof": "none"}))
    assert "> **Unproven.**" in text.split("\n## ")[0]
    assert "**Unproven**" in section(text, "Proof")


def test_what_stage_7_checked_is_told_in_words_and_a_fact_is_no_verdict() -> None:
    checks = {
        "token_ids": {"equal": True, "texts": 222, "bytes": 200071, "tokens": 79947,
                      "differences": 0, "unnormalised": 0, "first": None},
        "special_tokens": {"equal": True, "bos": 1, "eos": 2, "pad": None, "adds_bos": False,
                           "adds_eos": False},
        "ends": {"places": 2, "merged_model_ends": 1, "gguf_ends": 1, "probability": 0.25,
                 "stops_by_itself": True},
        "of_another_version": {"passed": True, "adds": False, "first": None},
    }  # fmt: skip
    merging = {"kl": 4.1e-05, "kl_max": 0.0009, "top1": 0.998, "furthest_logit": 0.2774}
    files = {GGUF: {"bits_per_byte": 1.26, "checks": checks}}
    whole = {"merged_model_is_the_trained_one": merging}
    text = model_card(told(proof=PROOF | {"checks": whole, "files": files}))
    assert [result for _, result in rows(text, "Proof")[2:]] == [
        "mean KL 4.1e-05 nats per token (0.0009 at the most), same next token 99.80%, "
        "furthest logit 0.277",
        "passed: 222 texts (200,071 bytes, 79,947 tokens) split as in training, 0 otherwise",
        "passed: ids as in training (bos 1, eos 2, pad none); put around texts: bos no, eos no",
        "at 2 ends of held-out texts this file ends 1 times, the merged model 1; mean probability "
        "of the end 0.25; writing stops there: yes",
        "passed; adds no",
    ]
    left = {"merged_model_is_the_trained_one": {"left_out": "a quick proof"}}
    quick = model_card(told(proof=PROOF | {"checks": left}))
    assert rows(quick, "Proof")[2][1] == "not compared: a quick proof"


def test_books_samples_and_what_they_copied_are_shown() -> None:
    text = model_card(told())
    assert rows(text, "The books")[2][:3] == ["84", "Frankenstein", "Mary Shelley"]
    assert "fine-tuned (an adapter) on 1 text (400 characters; 1 more held out)" in text
    assert rows(text, "Samples")[2:] == [
        ["base model", "So?"], ["trained model", "The door<br>fell."],
    ]  # fmt: skip
    assert rows(text, "Copied from the training text")[2] == [
        "1. trained model", "3", "14", "Frankenstein", "the old house",
    ]  # fmt: skip
    text = model_card(told(samples=[("x", {"base model": None})], copied=None))
    assert rows(text, "Samples")[2][1] == "*(left out)*"
    assert "Not measured" in section(text, "Copied from the training text")


def test_what_is_needed_to_make_it_again_is_there() -> None:
    origin = Provenance("a: 1\n", "pipeline all --config settings.yaml", {"python": "3.11"},
                        ["the file for --extra-tokens"], ("ab12", 2), "sha256sum *",
                        ["2_preprocessed: 1 file was edited by hand"])  # fmt: skip
    found = section(model_card(told(provenance=origin)), "How to make it again")
    for words in ("pipeline all --config settings.yaml", "`ab12`", "sha256sum *", "a: 1",
                  "| python | 3.11 |", "extra-tokens", "edited by hand"):  # fmt: skip
        assert words in found


def test_each_way_to_run_it_is_shown_only_where_it_works() -> None:
    text = model_card(told(repo_id="ada/tales", revision="v2", temperature=0.6))
    run = section(text, "Run it")
    assert "hf download ada/tales --revision v2 --local-dir tales" in run
    assert "ollama create tales -f Modelfile" in run
    assert f"-m {GGUF} -c 512 --temp 0.6 -p 'It was late.'" in run
    assert "transformers" not in run
    files = {GGUF: 1, "adapter/adapter_config.json": 1, "merged/config.json": 1}
    run = section(model_card(told(files=files, modelfile=None)), "Run it")
    assert 'PeftModel.from_pretrained(base, "your-name/your-model", subfolder="adapter")' in run
    assert 'from_pretrained("your-name/your-model", subfolder="merged")' in run
    assert 'AutoModelForCausalLM.from_pretrained("ada/base", revision="0123abc")' in run
    assert "ollama" not in run
    assert "base_changes" not in run
    files = {GGUF: 1, "adapter/adapter_config.json": 1, "adapter/base_changes.json": 1}
    run = section(model_card(told(files=files, revision="v2")), "Run it")
    code = run.split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")
    assert (
        'hf_hub_download("your-name/your-model", "adapter/base_changes.json", revision="v2")'
        in code
    )
    assert 'from_pretrained("ada/base", revision="0123abc", config=config)' in code


def test_a_model_of_chats_shows_its_template_whatever_is_in_it() -> None:
    template = "{% for m in messages %}```\n````{{ m }}````\n{% endfor %}"
    chats = EVALUATION | {"kind": "chat", "chat": {"template": template}}
    text = model_card(told(evaluation=chats))
    assert f"`````jinja\n{template}\n`````" in text
    assert ModelCard(text).data["tags"][-1] == "chat"
    assert "does not answer questions" not in text


def test_old_records_and_empty_ones_make_a_card_all_the_same() -> None:
    text = model_card(told(proof={}, evaluation={}, books=(), samples=(), copied=None, files={}))
    assert ModelCard(text).data["license"] == "unknown"
    text = model_card(told(books=(), dataset="roneneldan/TinyStories"))
    assert "the dataset roneneldan/TinyStories" in section(text, "The books")


def test_scores_of_another_text_than_the_held_out_one_are_no_results_of_the_model() -> None:
    text = model_card(told(proof=PROOF | {"text": {"held_out": False, "whole": False, "bytes": 9}}))
    assert "There was no held-out text: these are scores of 9 bytes" in section(text, "Scores")
    assert "model-index" not in ModelCard(text).data.to_dict()


@settings(deadline=None, max_examples=25)
@given(TITLES, TITLES, TITLES, TITLES)
def test_no_words_break_the_card(name: str, title: str, said: str, licence: str) -> None:
    plain = model_card(told(licence="mit"))
    text = model_card(
        told(
            name=name, licence=licence, repo_id=title, revision="v1" if title == "x" else None,
            books=[Book(title, title, [said], title, rights=licence), BOOKS[1]],
            proof=PROOF | {"end_tokens": [said], "checks": {title: said},
                           "base_model": {"name": title, "source": said, "revision": said}},
            evaluation=EVALUATION | {"prompt": said},
            samples=[(said, {"base model": title, title: said})],
            copied=[(title, {"words": {"length": 1, "text": said, "title": title}})],
        )
    )  # fmt: skip
    data = ModelCard(text).data.to_dict()
    known = set(ModelCard(plain).data.to_dict()) | {"license_name"}
    assert set(data) <= known
    headings = [line for line in text.splitlines() if line.startswith("#")]
    prose = re.sub(r"(?ms)^(`{3,}).*?^\1$", "", ModelCard(text).text)
    assert [h for h in headings if h.startswith("## ")] == [
        line for line in plain.splitlines() if line.startswith("## ")
    ]
    assert "<script" not in prose
    assert rows(text, "The books")[2][1] == (one_line(title) or "untitled")


@pytest.mark.parametrize("words", HOSTILE)
def test_the_front_matter_ends_where_it_should(words: str) -> None:
    text = model_card(told(name=words, licence=words, dataset=words))
    front = yaml.safe_load(text.split("---\n", 2)[1])
    assert front["model-index"][0]["name"] == (one_line(words) or "model")


def test_a_licence_that_the_hub_does_not_know_gets_a_name() -> None:
    assert licence_fields("llama3.1") == {"license": "llama3.1"}
    assert licence_fields(" My own: terms\n") == {
        "license": "other", "license_name": "My own: terms",
    }  # fmt: skip
    assert licence_fields(None) == {"license": "unknown"}


@settings(deadline=None, max_examples=100)
@given(st.text(alphabet="`~ \nab|\0\u202e", max_size=30))
def test_nothing_ends_a_block_of_code_but_its_own_fence(text: str) -> None:
    first, *lines, last = code_block(text, "x").split("\n")
    fence = first.removesuffix("x")
    assert last == fence
    assert len(fence) >= 3
    assert not any(set(line.strip()) == {"`"} and len(line.strip()) >= len(fence) for line in lines)


RECORDS: dict[str, Any] = EVALUATION | {
    "kind": "completion", "prompt": "Question: who?\nAnswer:", "prompts_from": "held-out records",
}  # fmt: skip
LEDGER = {"kind": "completion", "examples": 18, "characters": 2165, "held_out": {"examples": 2}}
FILES = [Book("mine", characters=2404, split="train and validation", kind="completion", records=20)]


def test_a_model_of_records_is_told_in_words_of_records() -> None:
    samples = [("Question: who?\nAnswer:", {"trained model": " Me."})]
    text = model_card(told(evaluation=RECORDS, run={"data": LEDGER}, books=FILES, samples=samples))
    learnt = "18 prompts with their completions (2,165 characters; 2 more held out)"
    assert f"fine-tuned (an adapter) on {learnt}." in text
    assert f"The model was trained on {learnt}, from these files:" in section(text, "The records")
    assert rows(text, "The records")[2] == [
        "mine", "", "", "2,404", "20", "train and validation", "unknown",
    ]  # fmt: skip
    assert "The books" not in text and "its books" not in text
    assert "not to refuse anything" in section(text, "Limits")
    assert "no notion of instructions" not in text
    assert "prompts are those of held-out records" in section(text, "Samples")


def test_a_card_shows_how_a_model_of_records_is_asked() -> None:
    text = model_card(told(evaluation=RECORDS))
    assert "```\nQuestion: who?\nAnswer:\n```" in section(text, "Prompt format")
    assert "ollama run your-model 'Question: who?\nAnswer:'\n" in section(text, "Run it")
    chat = RECORDS | {
        "kind": "chat", "chat": {"template": "{{ x }}"}, "prompt": "Who?",
        "prompt_in_template": "<|im_start|>system\nBe brief.<|im_end|>\n",
    }  # fmt: skip
    text = model_card(told(evaluation=chat, run={"data": LEDGER | {"examples": 1}}))
    assert "```\n<|im_start|>system\nBe brief.<|im_end|>\n```" in section(text, "Prompt format")
    assert "on 1 chat (2,165 characters" in text


def test_end_tokens_are_code_in_which_nothing_is_escaped() -> None:
    ends = ["<|im_end|>", "</s>", "`odd`", "a\nb", "\u202e"]
    text = section(model_card(told(proof=PROOF | {"end_tokens": ends})), "Prompt format")
    assert "- Tokens that end a text: `<|im_end|>`, `</s>`, `` `odd` ``, `a b`, (nothing)" in text
    assert "- Tokens that it saw at once in training: 512" in text


@pytest.mark.parametrize("said", HOSTILE)
def test_no_prompt_of_a_record_breaks_the_card(said: str) -> None:
    asked = RECORDS | {"prompt": f"{said}\n```\n---\n", "prompts": [said]}
    text = model_card(told(evaluation=asked, samples=[(said, {"trained model": said})]))
    plain = model_card(told(evaluation=RECORDS, samples=[("x", {"trained model": "x"})]))
    headings = [line for line in plain.splitlines() if line.startswith("## ")]
    outside = re.sub(r"(?s)(`{3,})[a-z]*\n.*?\n\1\n", "", text)
    assert [line for line in outside.splitlines() if line.startswith("## ")] == headings
    assert ModelCard(text).data.to_dict() == ModelCard(plain).data.to_dict()
    assert "<script" not in outside and "](javascript" not in outside
