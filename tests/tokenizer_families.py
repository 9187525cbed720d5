"""Tokenizers of the families that base models come from, small and made in the test.

Each has its family's real pre-tokenizer, normalizer, special tokens, way to begin a text, and chat
template; only the vocabulary is small. What differs between them is what matters to training:
whether BOS is added, whether there is a pad token and which, whether a text begins with a space
that was not there, and which tokens end a turn.
"""

import json
from collections.abc import Callable, Sequence
from functools import cache

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

TALE = (
    "The lamp went out. “Who is there?” she asked, and nobody answered; only the sea went on "
    "talking to the stones, as it had talked to her father and to his.\n\n"
    "In the morning — it was the 3rd of November, 1821 — the door stood open. A line of wet "
    "footprints led from the hearth to the sill, café-brown with mud, and not one led back.\n"
)

LLAMA_3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_SPLIT = LLAMA_3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")

LLAMA_2_TEMPLATE = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}"
    "{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
    "{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/...') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}"
    "{% endif %}{% endfor %}"
)
LLAMA_3_TEMPLATE = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    "+ message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
    "{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
QWEN_TEMPLATE = """\
{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are Qwen, a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "assistant") %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "tool" %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + message.content }}
        {{- '\\n</tool_response><|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
GEMMA_TEMPLATE = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}"
    "{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)


def gpt2(pad: str | None = None) -> PreTrainedTokenizerFast:
    """No BOS is added, though it has one: the end token. No pad token (or `pad`), no template."""
    backend = _byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), ["<|endoftext|>"])
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    end = "<|endoftext|>"
    return _wrap(backend, "gpt2", bos_token=end, eos_token=end, unk_token=end, pad_token=pad)


def gpt2_padded_with_its_end() -> PreTrainedTokenizerFast:
    """GPT-2 as most scripts use it."""
    return gpt2(pad="<|endoftext|>")


def llama2() -> PreTrainedTokenizerFast:
    """Sentencepiece: a space before every text, bytes for what it cannot spell; no pad token."""
    backend = _sentencepiece(["<unk>", "<s>", "</s>"])
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return _finish_llama2(backend)


def llama2_new() -> PreTrainedTokenizerFast:
    """The same as newer conversions write it: no space after a special token."""
    backend = _sentencepiece(["<unk>", "<s>", "</s>"])
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return _finish_llama2(backend)


def _finish_llama2(backend: Tokenizer) -> PreTrainedTokenizerFast:
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    backend.post_processor = _bos("<s>", 1)
    return _wrap(
        backend, "llama-2", LLAMA_2_TEMPLATE, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def llama3() -> PreTrainedTokenizerFast:
    """BOS is added, turns end with a token of their own, and tokens are held in reserve."""
    names = ["begin_of_text", "end_of_text", "reserved_special_token_0", "start_header_id",
             "end_header_id", "eom_id", "eot_id", "python_tag"]  # fmt: skip
    split = pre_tokenizers.Split(Regex(LLAMA_3_SPLIT), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend = _byte_level(
        pre_tokenizers.Sequence([split, level]), [f"<|{name}|>" for name in names]
    )
    backend.post_processor = processors.Sequence(
        [processors.ByteLevel(trim_offsets=False), _bos("<|begin_of_text|>", 0)]
    )
    return _wrap(
        backend,
        "llama-3",
        LLAMA_3_TEMPLATE,
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
    )


def qwen() -> PreTrainedTokenizerFast:
    """No BOS at all; the pad token is the end of a text, and a turn ends with another token.

    `<tool_response>` is a token that is not called special.
    """
    split = pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend = _byte_level(
        pre_tokenizers.Sequence([split, level]), ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    )
    backend.normalizer = normalizers.NFC()
    backend.add_tokens(
        [AddedToken(text, normalized=False) for text in ("<tool_response>", "</tool_response>")]
    )
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    return _wrap(backend, "qwen", QWEN_TEMPLATE, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def gemma() -> PreTrainedTokenizerFast:
    """The pad token has the id 0; no space is added; empty lines and tags are tokens."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<unused0>", "<start_of_turn>", "<end_of_turn>"]
    backend = _sentencepiece(special)
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    backend.add_tokens(
        [AddedToken(text, normalized=False) for text in ("\n", "\n\n", "▁▁", "<h1>")]
    )
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    backend.post_processor = _bos("<bos>", 2)
    return _wrap(
        backend,
        "gemma",
        GEMMA_TEMPLATE,
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        pad_token="<pad>",
    )


FAMILIES: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "gpt2": cache(gpt2),
    "gpt2-pad-is-eos": cache(gpt2_padded_with_its_end),
    "llama-2": cache(llama2),
    "llama-2-new": cache(llama2_new),
    "llama-3": cache(llama3),
    "qwen": cache(qwen),
    "gemma": cache(gemma),
}
"""Makes the tokenizer of a family, once; a test that changes one calls the function itself."""

ADDS_BOS = {"llama-2", "llama-2-new", "llama-3", "gemma"}


def _byte_level(pre_tokenizer: pre_tokenizers.PreTokenizer, special: Sequence[str]) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizer
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=list(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator([TALE], trainer)
    return backend


def _sentencepiece(special: Sequence[str]) -> Tokenizer:
    """BPE whose pieces hold a space at their start at most, with a token for each byte."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(vocab_size=300, show_progress=False)
    learner.train_from_iterator(TALE.split("\n"), trainer)
    learned = json.loads(learner.to_str())["model"]
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *learned["vocab"]]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    merges = [tuple(merge) for merge in learned["merges"]]
    backend = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    backend.add_special_tokens([AddedToken(text, normalized=False) for text in special])
    return backend


def _bos(token: str, id: int) -> processors.PostProcessor:
    return processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=[(token, id)]
    )


def _wrap(
    backend: Tokenizer, name: str, template: str | None = None, **special: str | None
) -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        clean_up_tokenization_spaces=False,
        name_or_path=name,
        **{key: value for key, value in special.items() if value is not None},
    )
    tokenizer.chat_template = template
    return tokenizer
