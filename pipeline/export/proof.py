"""The proof that what was exported is the model that was trained.

    proof = Proof(subject, bounds, logits=scratch / "logits", report=logs / "proof.json")
    proof.take_models(load_trained, load_merged, ...)     # merging changed nothing
    proof.check_file(path, "q4_k_m", log)                 # nor did this file

All figures are of the same held-out text. Whatever is out of bounds raises a PipelineError that
names file, number and log; what was measured until then is in `proof.as_dict()`.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.console import warn
from pipeline.errors import PipelineError
from pipeline.export import llama
from pipeline.export.proof_bounds import Bounds, fits
from pipeline.export.proof_ends import before_end, compare_ends
from pipeline.export.proof_logits import Sample, ask_model
from pipeline.export.proof_subject import Subject
from pipeline.export.proof_tokens import check_reading

if TYPE_CHECKING:
    import torch

    from pipeline.export.logit_rows import Rows


Load = Callable[[bool], AbstractContextManager["tuple[Any, torch.dtype | None]"]]
"""Loads a model, in float32 if told so: the model, and what to compute in where it is not."""

_SEEDS = range(5)  # a model may hold a prompt for finished; one that always does is broken
_WHERE = "Earlier files and the adapter are as they were; what was measured is in {}."


@dataclass
class Reference:
    """What GGUFs are compared with: bits per byte and the rows of the merged model, who said so,
    and how it differs from base and adapter (None: not looked at), with their bits per byte of the
    same text where these are not known from training."""

    bits_per_byte: float
    by: str
    rows: "Rows"
    to_trained: dict[str, float] | None = None
    trained_bits: float | None = None
    why_not: str | None = None


@dataclass
class Proof:
    """A proof at work. `logits` is a file for the logits of the merged model, of up to 512 MB."""

    subject: Subject
    bounds: Bounds
    logits: Path
    report: Path
    mode: str = "full"
    reference: Reference | None = None
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0

    def take_models(
        self, load_trained: Load, load_merged: Load, parameters: int, plain: Path, log: Path
    ) -> None:
        """Ask the trained model and the merged one, one at a time.

        Where the memory is too small for `parameters`, the GGUF in 16 bits, `plain`, is asked in
        place of the merged model.

        Raises:
            PipelineError: merging changed what the model expects.
        """
        start = time.monotonic()
        if fits(2 * parameters):
            self._take_merged(load_trained, load_merged, fits(4 * parameters))
        else:
            self._take_plain(plain, log)
        self.seconds += time.monotonic() - start

    def _take_merged(self, load_trained: Load, load_merged: Load, wide: bool) -> None:
        # What it needs for the whole text, training has measured, but for a step without a score.
        sample, is_known = self.subject.sample, self._scored_in_training is not None
        asked = sample.shortened() if is_known else sample
        of_trained, trained = self._asked(load_trained, wide, "the trained model", asked)
        nats, rows = self._asked(load_merged, wide, "the merged model", sample, compare=True)
        self.reference = Reference(
            self.subject.bits(nats), f"transformers, {'float32' if wide else '16 bits'}", rows,
            trained_bits=None if is_known else self.subject.bits(of_trained),
        )  # fmt: skip
        self._judge_merged(trained, rows, wide)

    def _asked(
        self, load: Load, wide: bool, what: str, sample: Sample, compare: bool = False
    ) -> "tuple[float, Rows]":
        with load(wide) as (model, autocast):
            try:
                return ask_model(
                    model, sample, autocast=autocast, what=what, path=self.logits,
                    compare=compare,
                )  # fmt: skip
            except ValueError as error:
                raise PipelineError(
                    f"The merged model is not the one that was trained: {error}."
                ) from error

    def _judge_merged(self, trained: "Rows", rows: "Rows", wide: bool) -> None:
        assert self.reference is not None
        self.reference.to_trained = {
            "kl": _mean(rows.kls),
            "kl_max": max(rows.kls),
            "top1": _agreement(trained, rows),
            "furthest_logit": rows.furthest,
        }
        allowed = self.bounds.divergence_of(wide)
        found = self.reference.to_trained["kl"]
        if not found <= allowed:  # not a number is out of bounds, too
            raise PipelineError(
                f"The merged model is not the one that was trained: what it expects differs by"
                f" {found:.5f} nats per token from base and adapter; {allowed:g} are allowed.",
                f"--max-merge-divergence allows more. {_WHERE.format(self.report)}",
            )

    def _take_plain(self, plain: Path, log: Path) -> None:
        sample = self.subject.sample
        measured = llama.measure(
            plain, [w.ids for w in sample.windows], log, masks=[w.mask for w in sample.windows],
            places=sample.places, record=self.logits,
        )  # fmt: skip
        self.reference = Reference(
            self.subject.bits(measured.nats), "llama.cpp, 16 bits", measured.rows,
            why_not="there is not the memory for it",
        )  # fmt: skip
        warn(
            "There is not the memory to load the merged model: its GGUF in 16 bits stands in for"
            " it, and that the merge changed nothing is not proven."
        )

    def check_file(self, path: Path, kind: str, log: Path) -> None:
        """Compare a GGUF with the merged model; let it write, and end. See `files` for all figures.

        Raises:
            PipelineError: it does not load, crashes, writes nothing, reads text in another way than
                the training, is too far from the merged model, or does not end.
        """
        start = time.monotonic()
        facts: dict[str, Any] = {"bytes": path.stat().st_size, "quantization": kind}
        self.files[path.name] = facts
        reading = check_reading(path, self.subject.reading, log, allowed=self.bounds.tokens)
        facts["checks"] = reading.as_checks()
        if reading.unnormalised:
            warn(
                f"{path.name}: llama.cpp does not bring text into the normal form of Unicode that"
                f" this tokenizer wants ({reading.unnormalised} of {reading.texts} texts)."
            )
        rows = self._measure(path, facts, log)
        self._judge_file(path, kind, facts, log)
        facts |= written_by(path, self.subject.evaluation, log)
        self._check_end(path, facts, rows, log)
        self.seconds += time.monotonic() - start

    def _measure(self, path: Path, facts: dict[str, Any], log: Path) -> "Rows":
        assert self.reference is not None
        sample = self.subject.sample
        measured = llama.measure(
            path, [w.ids for w in sample.windows], log, masks=[w.mask for w in sample.windows],
            places=sample.places, reference=self.logits,
        )  # fmt: skip
        bits = self.subject.bits(measured.nats)
        facts |= {
            "bits_per_byte": bits,
            "bits_per_byte_difference": bits - self.reference.bits_per_byte,
            "top1": _agreement(self.reference.rows, measured.rows),
            "kl": _mean(measured.rows.kls),
            "kl_max": max(measured.rows.kls),
        }
        return measured.rows

    def _judge_file(self, path: Path, kind: str, facts: dict[str, Any], log: Path) -> None:
        assert self.reference is not None
        of_all, allowed = "the merged model", self.bounds.bits_of(kind)
        pairs = [(of_all, self.reference.bits_per_byte, allowed)]
        if not self.reference.to_trained and self._scored_in_training is not None:
            # Nothing else says that it is the model that was trained.
            pairs.append(("training", self._scored_in_training, allowed + 0.02))
        for who, wanted, most in pairs:
            if not abs(facts["bits_per_byte"] - wanted) <= most:
                raise PipelineError(
                    f"{path.name} is not the model that was trained: it needs"
                    f" {facts['bits_per_byte']:.4f} bits per byte of the held-out text, {who}"
                    f" {wanted:.4f}; a difference of {most:g} is allowed (log: {log}).",
                    f"--max-bits-lost allows more. {_WHERE.format(self.report)}",
                )

    @property
    def _scored_in_training(self) -> float | None:
        """The bits per byte that training measured for the same text, if it did."""
        bits: float | None = self.subject.evaluation["bits_per_byte"]["adapter"]
        return bits if self.subject.whole else None

    def _check_end(self, path: Path, facts: dict[str, Any], rows: "Rows", log: Path) -> None:
        """Whether it ends where the merged model does, and generating then stops."""
        assert self.reference is not None
        ends = compare_ends(self.subject, self.reference.rows, rows)
        said = facts["checks"]["ends"] = ends.told()
        if ends.are_lost:
            raise PipelineError(
                f"{path.name} does not end where it should: after {len(ends.gguf)} of"
                f" {len(ends.places)} {ends.what}, the merged model after {len(ends.merged)}"
                f" (log: {log}).",
                _WHERE.format(self.report),
            )
        if not ends.gguf:
            return
        completion = llama.complete(
            path, before_end(self.subject, ends.gguf[0]), max_tokens=4, temperature=0,
            repeat_penalty=1.0, log=log,
        )  # fmt: skip
        said["stops_by_itself"] = completion.finish == "stop"
        if completion.finish != "stop":
            raise PipelineError(
                f"{path.name} does not stop: where one of the {ends.what} ends it writes"
                f" {completion.text!r} (log: {log}).",
                _WHERE.format(self.report),
            )

    def _verdict(self) -> dict[str, Any]:
        """Whether the model was compared with the one that was trained, in whatever way."""
        reference = self.reference
        if reference is None or reference.to_trained or self._scored_in_training is not None:
            return {"proven": True}
        return {
            "proven": False,
            "why": f"merged and trained model were not compared: {reference.why_not}",
        }

    def as_dict(self) -> dict[str, Any]:
        """What is recorded in proof.json beside each file's own figures."""
        reference = self.reference
        found: dict[str, Any] = {
            "proof": self.mode,
            **self._verdict(),
            "text": self.subject.told(),
            "bounds": self.bounds.given(),
            "seconds": round(self.seconds, 1),
            "files": self.files,
        }
        if reference:
            compared: dict[str, Any] = {"left_out": reference.why_not}
            if reference.to_trained:
                compared = reference.to_trained
            found["merged"] = {"bits_per_byte": reference.bits_per_byte, "by": reference.by}
            if reference.trained_bits is not None:
                found["trained"] = {"bits_per_byte": reference.trained_bits}
            found["checks"] = {"merged_model_is_the_trained_one": compared}
        return found


@dataclass
class Unproven:
    """In place of a proof where none is wanted: each file is loaded, and writes something."""

    evaluation: dict[str, Any]
    files: dict[str, dict[str, Any]] = field(default_factory=dict)

    def take_models(
        self, load_trained: Load, load_merged: Load, parameters: int, plain: Path, log: Path
    ) -> None:
        """Nothing is asked."""

    def check_file(self, path: Path, kind: str, log: Path) -> None:
        """Let it write. Raises PipelineError if it does not."""
        facts = {"bytes": path.stat().st_size, "quantization": kind, "bits_per_byte": None}
        self.files[path.name] = facts | written_by(path, self.evaluation, log)

    def as_dict(self) -> dict[str, Any]:
        """What is recorded, for the model card to say so."""
        return {
            "proof": "none", "proven": False, "why": "--proof none was asked for",
            "files": self.files,
        }  # fmt: skip


def written_by(path: Path, evaluation: dict[str, Any], log: Path) -> dict[str, Any]:
    """What a GGUF writes after the sample prompt, by which seed, and how fast.

    Raises PipelineError if it does not load, crashes, or writes nothing.
    """
    prompt = sample_prompt(evaluation)
    for seed in _SEEDS:
        completion = llama.complete(path, prompt, max_tokens=80, seed=seed, log=log)
        if completion.text.strip():
            break
    else:
        raise PipelineError(
            f"{path.name} loads, but does not go on from {evaluation['prompt']!r}.",
            f"See {log}; try another --quantization.",
        )
    return {
        "sample": completion.text,
        "seed": seed,
        "finish": completion.finish,
        "tokens_per_second": round(completion.tokens / max(completion.seconds, 1e-9), 1),
    }


def sample_prompt(evaluation: dict[str, Any]) -> str | list[int]:
    """The prompt as the model was trained to see it: of chats in its template, as token ids."""
    chat = evaluation.get("chat")
    prompt: str | list[int] = chat["prompt_ids"] if chat else evaluation["prompt"]
    return prompt


def _agreement(one: "Rows", other: "Rows") -> float:
    same = [a == b for a, b in zip(one.tops, other.tops, strict=True)]
    return sum(same) / len(same)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
