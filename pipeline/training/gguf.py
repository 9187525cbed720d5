"""From a GGUF back to a Hugging Face model that can be trained: 16-bit weights, and a tokenizer.

The tokenizer is rebuilt here where its kind is known, because the one that transformers 5.17 makes
for Llama models names the BOS token as EOS, drops the pad token, and turns the character "▁" into a
blank when it decodes.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError
from pipeline.training.gguf_weights import write_gguf_weights

if TYPE_CHECKING:
    from tokenizers import Tokenizer, pre_tokenizers
    from transformers import PreTrainedTokenizerBase

MAGIC = b"GGUF"
CONTROL_TOKEN = 3  # gguf's TokenType.CONTROL: special tokens
USER_DEFINED_TOKEN = 4

# How llama.cpp splits text before byte pairs are merged, by the name in `tokenizer.ggml.pre`
# (llama.cpp, src/llama-vocab.cpp), for the kinds whose counterpart in `tokenizers` is exact.
WORDS_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
WORDS_QWEN2 = WORDS_LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


@dataclass(frozen=True)
class GgufInfo:
    """What a GGUF says about itself."""

    name: str | None
    licence: str | None
    fields: dict[str, Any]


def check_gguf(path: Path) -> None:
    """Raise PipelineError unless `path` is a file that begins like a GGUF of a known version."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise PipelineError(f"The base model {path} cannot be read: {error.strerror}.") from error
    if len(head) < 8 or head[:4] != MAGIC:
        raise PipelineError(
            f"{path} is not a GGUF file.", "Download it again: it may be cut short, or a web page."
        )
    version = struct.unpack("<I", head[4:])[0]
    if version not in (2, 3):
        raise PipelineError(f"{path} is a GGUF of version {version}; 2 and 3 can be read.")


def convert_gguf(path: Path, out: Path) -> GgufInfo:
    """Write `path` as a Hugging Face directory `out`: bfloat16 safetensors and a tokenizer.

    Raises:
        PipelineError: the file is damaged, or of an architecture that transformers cannot read.
    """
    check_gguf(path)
    try:
        info = read_info(path)
        tokenizer = read_tokenizer(path, info.fields)
        write_gguf_weights(path, out)
    except (
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        # The readers have no exception of their own for what they cannot read.
        raise PipelineError(
            f"The GGUF {path} cannot be turned into a model for training: {_one_line(error)}.",
            "It may be damaged, or of a kind that transformers does not read: "
            "use the model's Hugging Face directory instead.",
        ) from error
    tokenizer.save_pretrained(out)
    _name_portable_class(out)
    return info


def read_info(path: Path) -> GgufInfo:
    """Read the metadata (two seconds for a vocabulary of 49152)."""
    from gguf import GGUFReader

    reader = GGUFReader(path)
    fields = {key: field.contents() for key, field in reader.fields.items()}
    licence = fields.get("general.license")
    return GgufInfo(fields.get("general.name"), licence, fields)


def build_tokenizer(fields: dict[str, Any]) -> "Tokenizer | None":
    """The byte-level BPE tokenizer that the metadata describe; None if its kind is not known."""
    from tokenizers import AddedToken, Tokenizer, decoders, models

    splitter = _splitter(str(fields.get("tokenizer.ggml.pre")))
    if fields.get("tokenizer.ggml.model") != "gpt2" or splitter is None:
        return None
    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    whole_words = fields["tokenizer.ggml.pre"] == "llama-bpe"
    tokenizer = Tokenizer(
        models.BPE({t: i for i, t in enumerate(tokens)}, merges, ignore_merges=whole_words)
    )
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    kinds = fields["tokenizer.ggml.token_type"]
    for kind in (CONTROL_TOKEN, USER_DEFINED_TOKEN):
        special = kind == CONTROL_TOKEN
        added = [t for t, k in zip(tokens, kinds, strict=True) if k == kind]
        add = tokenizer.add_special_tokens if special else tokenizer.add_tokens
        add([AddedToken(t, special=special, normalized=False) for t in added])
    return tokenizer


def _splitter(kind: str) -> "pre_tokenizers.PreTokenizer | None":
    from tokenizers import Regex, pre_tokenizers

    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if kind == "gpt-2":
        return gpt2
    if kind in ("smollm", "starcoder", "refact", "command-r"):
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2])
    words = {"llama-bpe": WORDS_LLAMA3, "qwen2": WORDS_QWEN2}.get(kind)
    if words is None:
        return None
    split = pre_tokenizers.Split(Regex(words), behavior="isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([split, to_bytes])


def read_tokenizer(path: Path, fields: dict[str, Any]) -> "PreTrainedTokenizerBase":
    """The tokenizer of a GGUF, with the special tokens that its metadata name."""
    from tokenizers import processors
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    backend = build_tokenizer(fields)
    if backend is None:
        rough = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        backend = rough.backend_tokenizer
    tokens = fields["tokenizer.ggml.tokens"]

    def named(kind: str) -> str | None:
        index = fields.get(f"tokenizer.ggml.{kind}_token_id")
        return tokens[index] if index is not None and 0 <= index < len(tokens) else None

    bos = named("bos")
    if bos is not None and _adds_bos(fields):
        start = (bos, fields["tokenizer.ggml.bos_token_id"])
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos}:0 $A:0", pair=f"{bos}:0 $A:0 {bos}:1 $B:1", special_tokens=[start]
        )
    named_tokens = {
        f"{name}_token": named(kind)
        for name, kind in (("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=bos,
        clean_up_tokenization_spaces=False,
        chat_template=fields.get("tokenizer.chat_template"),
        **{name: token for name, token in named_tokens.items() if token is not None},
    )


def _adds_bos(fields: dict[str, Any]) -> bool:
    """Whether texts begin with BOS: as the file says, else as llama.cpp assumes."""
    said = fields.get("tokenizer.ggml.add_bos_token")
    if said is not None:
        return bool(said)
    kind, split = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre")
    return kind == "llama" or split == "llama-bpe"


def _name_portable_class(out: Path) -> None:
    """Name the tokenizer's class so that transformers 4 loads it too ("TokenizersBackend" is 5)."""
    path = out / "tokenizer_config.json"
    text = path.read_text("utf-8")
    path.write_text(text.replace('"TokenizersBackend"', '"PreTrainedTokenizerFast"'), "utf-8")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__
