"""What is proven: the held-out text of a training run, and how its model was trained to read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.export.proof_logits import Sample, choose_sample
from pipeline.export.proof_tokens import Trained, reading_of
from pipeline.scoring.bits import Window, bits_per_byte, load_windows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

QUICK_TOKENS = 1024


@dataclass(frozen=True)
class Subject:
    """What is proven: texts, tokens, and what training measured.

    `evaluation` is evaluation.json. `whole`: all held-out windows are in the sample, so that the
    scores of the training can be set beside those of the proof. `is_held_out`: it is the text that
    training held out, and no other, with which files are still compared with what was trained.
    """

    sample: Sample
    reading: Trained
    evaluation: dict[str, Any]
    whole: bool = True
    is_held_out: bool = True

    @property
    def is_text(self) -> bool:
        """Whether the model was trained on texts, and not on records."""
        return bool(self.evaluation.get("kind", "text") == "text")

    @property
    def tokens(self) -> int:
        """Tokens that a model is to be scored on."""
        return sum(window.predicted for window in self.sample.windows)

    def bits(self, nats: float) -> float:
        """Bits per byte of the scored text."""
        return bits_per_byte(nats, sum(window.n_bytes for window in self.sample.windows))

    def shortened(self) -> "Subject":
        """The same with whole windows of a thousand tokens or a few more."""
        sample = self.sample.with_tokens(QUICK_TOKENS)
        is_all = len(sample.windows) == len(self.sample.windows)
        return replace(self, sample=sample, whole=self.whole and is_all)

    def told(self) -> dict[str, Any]:
        """What is recorded of the text."""
        windows = self.sample.windows
        return {
            "windows": len(windows),
            "tokens": self.tokens,
            "bytes": sum(window.n_bytes for window in windows),
            "places": self.sample.count,
            "whole": self.whole,
            "held_out": self.is_held_out,
        }


def read_subject(
    windows: Path | Sequence[Window],
    evaluation: dict[str, Any],
    tokenizer: "PreTrainedTokenizerBase",
    encode: Callable[[str], list[int]],
    *,
    end_texts: Sequence[str] = (),
    tails: Sequence[Sequence[int]] = (),
) -> Subject:
    """What stage 6 left, as a proof takes it.

    Args:
        windows: windows.json, or windows of any other text.
        evaluation: what is in evaluation.json.
        encode: from a text to its ids, as training encodes texts.
        end_texts: tokens that end a text.
        tails: ids of ends of documents with the end token, of a model of texts.

    Raises PipelineError if the windows are damaged, or gone.
    """
    is_held_out = isinstance(windows, Path)
    held_out = load_windows(windows) if isinstance(windows, Path) else windows
    known = tokenizer.get_vocab()
    ends = [known[text] for text in end_texts if text in known]
    if tokenizer.eos_token_id is not None:
        ends.append(tokenizer.eos_token_id)
    is_text = evaluation.get("kind", "text") == "text"
    sample = choose_sample(held_out, len(tokenizer), ends, tails if is_text else ())
    reading = reading_of(tokenizer, encode, [window.ids for window in held_out])
    return Subject(sample, reading, evaluation, whole=is_held_out, is_held_out=is_held_out)
