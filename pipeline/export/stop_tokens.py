"""The tokens that end a text, read from a model's files: no tokenizer library is needed."""

from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.files import read_json_object

# End tokens of the model families in use. The base of a tuned model may write any that its
# tokenizer has as a special token, whatever its configuration calls "the" EOS.
WELL_KNOWN = (
    "</s>",
    "<eos>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<end_of_turn>",
    "<turn|>",
    "<｜end▁of▁sentence｜>",
    "<|END_OF_TURN_TOKEN|>",
    "<EOT>",
    "[EOS]",
)


def end_tokens(tokenizer_dir: Path) -> list[str]:
    """The text of every end token of a model: its EOS first, then those of its configuration,
    then the well-known ones among its special tokens; none twice.

    Raises:
        PipelineError: there is no tokenizer, or one of its files is damaged.
    """
    files = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")
    if not any((tokenizer_dir / name).is_file() for name in files):
        raise PipelineError(f"There is no tokenizer in {tokenizer_dir}.")
    settings = _read(tokenizer_dir / "tokenizer_config.json")
    special_map = _read(tokenizer_dir / "special_tokens_map.json")
    texts, special = _vocabulary(tokenizer_dir, settings)

    found = [_content(settings.get("eos_token")), _content(special_map.get("eos_token"))]
    for name in ("generation_config.json", "config.json"):
        ids = _read(tokenizer_dir / name).get("eos_token_id")
        for token in ids if isinstance(ids, list) else [ids]:
            found.append(texts.get(token))
    found.extend(text for text in WELL_KNOWN if text in special)
    return list(dict.fromkeys(text for text in found if text))


def _vocabulary(tokenizer_dir: Path, settings: dict[str, Any]) -> tuple[dict[Any, str], set[str]]:
    """(text of each token id, texts of the special tokens)"""
    tokenizer = _read(tokenizer_dir / "tokenizer.json")
    entries = tokenizer.get("model", {}).get("vocab", {})
    if isinstance(entries, list):  # Unigram: [text, score] in the order of the ids
        texts = {i: entry[0] for i, entry in enumerate(entries)}
    else:
        texts = {i: text for text, i in entries.items()}
    special = set()
    added = {entry["id"]: entry for entry in tokenizer.get("added_tokens", [])}
    added |= {int(i): entry for i, entry in settings.get("added_tokens_decoder", {}).items()}
    for i, entry in added.items():
        texts[i] = entry["content"]
        if entry.get("special"):
            special.add(entry["content"])
    return texts, special


def _content(token: Any) -> str | None:
    """A special token's text; some files hold it with its properties."""
    return token.get("content") if isinstance(token, dict) else token


def _read(path: Path) -> dict[str, Any]:
    return read_json_object(path) if path.is_file() else {}
