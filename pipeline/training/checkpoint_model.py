"""From a checkpoint to what stage 6 would have left there: an adapter that PEFT loads, or a model.

    found = find_weights(checkpoints, "best")      # latest, best, a step, or a checkpoint's folder
    save_checkpoint(found, base, folder, tokenizers)

A checkpoint holds the trained weights by the names that training has for them, and the settings of
its run. The model is built again without data, and saves the weights under the names of the form.
"""

import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.console import warn
from pipeline.corpus.new_tokens import Extended, extend_tokenizer
from pipeline.corpus.token_cache import load_tokenizer
from pipeline.corpus.tokens import tokenizer_fingerprint
from pipeline.errors import PipelineError, UsageError
from pipeline.files import fingerprint, is_disk_full, read_json_object, sha256_file, write_json
from pipeline.scoring.bits import load_windows
from pipeline.tensor_files import Stored, read_file
from pipeline.training import checkpoints
from pipeline.training.adapters import add_adapter, add_token_rows
from pipeline.training.base_model import BaseModel
from pipeline.training.chats import describe_chat
from pipeline.training.checkpointing import BEST
from pipeline.training.checkpoints import Broken, Checkpoint
from pipeline.training.configs import library_errors, meta_model, reason_of, run_config
from pipeline.training.evaluation import EVALUATIONS, read_evaluations
from pipeline.training.kept_best import kept_best, no_best
from pipeline.training.results import EVALUATION, WINDOWS
from pipeline.training.run_folders import ASIDE, GIVEN_UP
from pipeline.training.run_state import WEIGHTS, trained_parts
from pipeline.training.sample_prompts import TOLD, recorded_prompts, told_prompts
from pipeline.training.saving import save_trained
from pipeline.training.settings import OF_ADAPTERS, TrainSettings
from pipeline.training.whole_weights import saved_tensors

LATEST = "latest"
_TRIES = 3  # a run that goes on may replace its best weights while they are looked at
CHOICES = f"{LATEST}, {BEST}, a step such as 120, or a checkpoint's folder"


@dataclass(frozen=True)
class Weights:
    """Trained weights of a run, as they were after `step`, with the checkpoint that tells how the
    run was set. Both were whole when they were looked at."""

    checkpoint: Checkpoint
    path: Path
    step: int

    @property
    def identity(self) -> dict[str, Any]:
        """What decided the outcome of the run, by name."""
        identity = self.checkpoint.about.get("identity")
        return identity if isinstance(identity, dict) else {}


# --- which one ------------------------------------------------------------------------------------


def find_weights(root: Path, which: str) -> Weights:
    """The weights that `which` means: "latest" or "best" of the latest run in `root`, a step of
    it, or a checkpoint's own folder.

    What is taken is verified by its hashes. Nothing is changed: broken checkpoints stay where they
    are, with a warning if "latest" has to pass over them.

    Raises:
        UsageError: `which` is none of these.
        PipelineError: there is none, or the one that is meant is broken.
    """
    if which == LATEST:
        found = _first_whole(_latest_run(root))
        return Weights(found, found.path / WEIGHTS, found.step)
    if which == BEST:
        return _best(_latest_run(root))
    if which.isascii() and which.isdigit():
        return _verified(_latest_run(root) / checkpoints.name_of(int(which)))
    path = Path(which).expanduser()
    if not path.is_dir():
        raise UsageError(f"--checkpoint {which} is not there.", f"Give {CHOICES}.")
    return _verified(path.resolve())


def _latest_run(root: Path) -> Path:
    """The folder of the run in `root` that saved last, of those that nobody gave up."""
    newest: dict[Path, str] = {}
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if folder.name.startswith(ASIDE) or (folder / GIVEN_UP).exists():
            continue
        saved = [found.saved for found in checkpoints.whole(folder, hashes=False)]
        if saved:
            newest[folder] = max(saved)
    if not newest:
        raise PipelineError(
            f"{root} has no whole checkpoint.",
            "`pipeline train` makes them; leave out --checkpoint.",
        )
    return max(newest, key=lambda folder: newest[folder])


def _whole(run: Path) -> Iterator[Checkpoint]:
    """Those of a run that are whole, the newest first; hashed as they are asked for."""
    for path in checkpoints.listed(run):
        try:
            yield checkpoints.verify(path)
        except Broken as reason:
            warn(f"The checkpoint {path} is broken: {reason}. It is passed over.")


def _first_whole(run: Path) -> Checkpoint:
    found = next(_whole(run), None)
    if found is None:
        raise PipelineError(f"{run} has no whole checkpoint left.", "`pipeline train` makes them.")
    return found


def _verified(path: Path) -> Weights:
    try:
        found = checkpoints.verify(path)
    except (Broken, OSError) as error:
        there = ", ".join(str(int(p.name[5:])) for p in checkpoints.listed(path.parent))
        raise PipelineError(
            f"The checkpoint {path} cannot be used: {error}.",
            f"There are those of the steps {there}." if there else f"Give {CHOICES}.",
        ) from error
    return Weights(found, found.path / WEIGHTS, found.step)


def _best(run: Path) -> Weights:
    """The weights with the lowest bits per byte that the run still has: in a folder of their own,
    or in a checkpoint."""
    newest = _first_whole(run)
    for _ in range(_TRIES):
        found, damaged = kept_best(run)
        for _, step, digest, weights in found:
            try:
                if sha256_file(weights) == digest:
                    return Weights(newest, weights, step)
            except FileNotFoundError:  # the run goes on, and has better ones now
                break
            warn(f"{weights} is not as it was written. It is passed over.")
            damaged.append(weights)
        else:
            raise no_best(run, damaged)
    raise PipelineError(
        f"The best weights of the run in {run} changed while they were read.",
        "The run goes on, it seems: run the same command again.",
    )


# --- what it was made with ------------------------------------------------------------------------


def settings_of(weights: Weights, config: Path | None = None) -> TrainSettings:
    """The settings of the run, as far as they say what its model is.

    `config` is the config.json of a model that was trained from scratch, which a checkpoint does
    not hold.

    Raises PipelineError: the checkpoint does not tell them, or such a file is missing.
    """
    identity = weights.identity
    known = {field.name for field in fields(TrainSettings)} - {"precision", "engine"}
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in identity.items() if name in known
    }  # fmt: skip
    if values.get("from_scratch") is not None:
        if config is None or not config.is_file():
            raise PipelineError(
                f"The checkpoint {weights.checkpoint.path} is of a model trained from scratch,"
                " whose config.json it does not hold.",
                "Let the run end: `pipeline train` writes the model with its config.json.",
            )
        values["from_scratch"] = str(config)
    if values.get("from_scratch") is not None or values.get("method") == "full":
        values = {name: value for name, value in values.items() if name not in OF_ADAPTERS}
    try:
        settings = TrainSettings(**values)
        settings.check()
    except (TypeError, ValueError, AttributeError, UsageError) as error:
        raise _no_settings(weights) from error
    if "method" not in identity or "base_model" not in identity:
        raise _no_settings(weights)
    return settings


def _no_settings(weights: Weights) -> PipelineError:
    return PipelineError(
        f"The checkpoint {weights.checkpoint.path} does not tell how its run was set.",
        "Was it made by another version? Then take that one.",
    )


def base_identity(base: BaseModel) -> str:
    """The base model by name and content, as a run's identity has it."""
    if base.revision:
        return f"{base.name} {base.revision}"
    files = sorted([*base.path.glob("*.safetensors"), *base.path.glob("config.json")])
    return f"{base.name} {fingerprint([[file.name, sha256_file(file)] for file in files])}"


# --- what it becomes ------------------------------------------------------------------------------


def save_checkpoint(
    weights: Weights, base: BaseModel, folder: Path, tokenizers: Path, config: Path | None = None
) -> TrainSettings:
    """Write the weights into `folder` as stage 6 would have: `save_trained` says how.

    Args:
        tokenizers: where tokenizers with new tokens are kept.
        config: see `settings_of`.

    Returns:
        The settings of the run.

    Raises:
        PipelineError: the checkpoint is of another base model, does not fit it, or does not tell
            how its run was set.
    """
    settings = settings_of(weights, config)
    place = weights.checkpoint.path
    wanted = weights.identity["base_model"]
    if wanted != base_identity(base):
        raise PipelineError(
            f"The checkpoint {place} was trained on the base model {str(wanted)[:120]!r}, and not"
            f" on {base_identity(base)!r}.",
            "Give that one with --adapter-base.",
        )
    extended = extend_tokenizer(base.path, settings.extra_tokens, tokenizers)
    tokenizer = load_tokenizer(extended.path)
    if weights.identity.get("tokenizer") != tokenizer_fingerprint(tokenizer):
        raise PipelineError(
            f"The checkpoint {place} was trained with another tokenizer than that of the base model"
            f" in {base.path}.",
            "Give the base model as it was then.",
        )
    try:
        model, stored = _with_weights(weights.path, base, settings, extended)
        save_trained(model, base, settings, folder, extended, stored)
    except PipelineError as error:
        if weights.path.is_file():
            raise
        raise _gone(weights.path) from error
    except library_errors() as error:
        if is_disk_full(error):
            raise
        if not weights.path.is_file():
            raise _gone(weights.path) from error
        raise PipelineError(
            f"The checkpoint {place} does not fit the base model in {base.path}:"
            f" {reason_of(error)}.",
            "Give the base model that it was trained on, with --adapter-base.",
        ) from error
    return settings


def _gone(path: Path) -> PipelineError:
    return PipelineError(
        f"The run went on and deleted {path} while it was read.", "Run the same command again."
    )


def _with_weights(
    path: Path, base: BaseModel, settings: TrainSettings, extended: Extended
) -> tuple[Any, dict[str, Stored] | None]:
    """The model of the run, which saves these weights; what is frozen in it has no data.

    A whole model has none at all, if it can be saved tensor by tensor: out of the file, of which
    the tensors come with it.
    """
    import torch
    from safetensors.torch import load_file

    new = settings.from_scratch is not None
    tokenizer = load_tokenizer(extended.path) if new else None
    model = meta_model(run_config(settings, base.path, tokenizer)[0])
    stored = read_file(path, "file of weights")
    with torch.device("meta"):
        if not new:
            add_token_rows(model, extended.new, extended.size)
        if not settings.trains_everything:
            model = add_adapter(model, base, settings, extended.new)
    _check(model, stored)
    if settings.trains_everything and saved_tensors(model) is not None:
        return model, stored
    tensors = load_file(path)
    if settings.trains_everything:
        model.load_state_dict(tensors, strict=False, assign=True)
        model.tie_weights()
    else:
        model.save_pretrained = partial(model.save_pretrained, state_dict=tensors)
    return model, None


def _check(model: Any, tensors: Mapping[str, Stored]) -> None:
    """Raise ValueError unless these are the weights that training changes in the model."""
    own = trained_parts(model)
    if own.keys() != tensors.keys():
        raise ValueError(f"one of the two has no {sorted(own.keys() ^ tensors.keys())[0]}")
    for name, tensor in tensors.items():
        if own[name].shape != tensor.shape:
            raise ValueError(f"{name} has the shape {list(tensor.shape)}")


def describe_checkpoint(
    weights: Weights,
    settings: TrainSettings,
    base: BaseModel,
    folder: Path,
    *,
    finished: Path,
    kind: str | None = None,
) -> None:
    """Write `evaluation.json` into `folder`, which `save_checkpoint` filled, and `windows.json`
    where the held-out text is known.

    It is known if the run, or one with the same text, came to its end in `finished`, the folder of
    stage 6; else only the scores that the checkpoint itself remembers are there.

    Args:
        kind: of the samples that were trained on: "text", "completion" or "chat".
    """
    rows = read_evaluations(weights.checkpoint.path / EVALUATIONS)
    scores = {
        "base" if row["what"] == "base" else "adapter": row["nats"] / math.log(2) / row["bytes"]
        for row in rows if row["what"] == "base" or row["step"] == weights.step
    }  # fmt: skip
    kind = kind or "text"
    asked = recorded_prompts(rows, settings, kind)
    tokenizer = load_tokenizer(folder) if kind == "chat" else None
    values: dict[str, Any] = {
        **told_prompts(asked, tokenizer, settings.chat_template),
        "sequence_length": settings.sequence_length, "settings": settings.as_dict(),
        "base_model": base.as_dict(), "kind": kind,
    }  # fmt: skip
    if tokenizer is not None:
        values["chat"] = describe_chat(tokenizer, settings.chat_template, asked[0].turns)
    windows = finished / WINDOWS
    if windows.is_file() and (finished / EVALUATION).is_file():
        held_out = load_windows(windows)
        if fingerprint([[w.ids, w.mask] for w in held_out]) == weights.identity.get("held_out"):
            shutil.copyfile(windows, folder / WINDOWS)
            run = read_json_object(finished / EVALUATION)
            # The prompts too: those in `chat` are what the run's own were.
            shared = ("kind", "held_out", "windows", "chat", "bits_per_byte", *TOLD)
            values |= {name: run[name] for name in shared if name in run}
            scores.setdefault("base", values.pop("bits_per_byte", {}).get("base"))
    write_json(folder / EVALUATION, values | {"step": weights.step, "bits_per_byte": scores})
