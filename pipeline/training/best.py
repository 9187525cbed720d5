"""The best weights of a run, kept on the disk until its end.

Of an adapter that is the adapter, of full training the whole model. A folder `step-...` holds
them and bears its name only when it is whole; the one before is deleted after that, so that at any
moment there is one to go back to.
"""

import json
import math
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError
from pipeline.files import TEMPORARY_PREFIX, is_disk_full, sha256_file, sync, write_json
from pipeline.training.evaluation import Evaluation
from pipeline.training.run_state import trained_parts

if TYPE_CHECKING:
    import torch

WEIGHTS = "weights.safetensors"
MARKER = "best.json"
PREFIX = "best-"  # of the same files in a checkpoint
_NAME = re.compile(r"step-\d+-[0-9a-f]{8}")
_OTHER = "Go on from another checkpoint with --resume PATH, or start anew with --resume never."
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Best:
    """The best weights in `folder`, which is this object's own; those of an earlier process count.

    Raises PipelineError if what lies there is not what was saved.
    """

    step: int | None = None
    bits_per_byte: float | None = None

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._place: Path | None = None
        self._sha256 = ""
        for place in self._places():
            marker = _read_marker(place)
            if self._is_better(marker["bits_per_byte"]):
                self._take(place, marker)
        self._tidy()

    def offer(self, model: Any, evaluation: Evaluation) -> bool:
        """Keep the model's trained weights if no earlier evaluation was as good; says whether.

        Raises PipelineError if the disk is full.
        """
        bits = evaluation.score.bits_per_byte
        if not self._is_better(bits):
            return False
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=self._folder))
        try:
            marker = _save(model, temporary, evaluation.step, bits)
            final = self._folder / f"step-{evaluation.step:08d}-{marker['sha256'][:8]}"
            temporary.rename(final)
            sync(self._folder)
        except Exception as error:
            if is_disk_full(error):
                raise PipelineError(
                    f"The disk is full: no room for weights in {self._folder}."
                ) from error
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._take(final, marker)
        self._tidy()
        return True

    def restore(self, model: Any) -> None:
        """Put the best weights back into the model that they were saved from, bit for bit.

        Raises PipelineError if there are none, they are damaged, or they are another model's.
        """
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if self._place is None:
            raise PipelineError(f"{self._folder} holds no weights to go back to.")
        path = self._place / WEIGHTS
        try:
            is_whole = sha256_file(path) == self._sha256
            saved = load_file(path) if is_whole else {}
        except (OSError, SafetensorError) as error:
            raise _damaged(path) from error
        if not is_whole:
            raise _damaged(path)
        wanted = trained_parts(model)
        if _shapes(saved) != _shapes(wanted):
            raise PipelineError(
                f"The weights in {path} are not of the model that is being trained.",
                f"Delete {self._folder} and train again.",
            )
        with torch.no_grad():
            for name, tensor in wanted.items():
                tensor.copy_(saved[name])

    def copy_to(self, folder: Path) -> None:
        """Put the best weights, if there are any, into a checkpoint's folder.

        As bytes of their own, and hashed anew with the rest of the checkpoint: as links to one
        file, a flipped bit or a cut would break every checkpoint that there is, and with a hash
        from memory, weights damaged since then would make checkpoints that are broken at birth.
        """
        if self._place is not None:
            for name in (WEIGHTS, MARKER):
                shutil.copyfile(self._place / name, folder / f"{PREFIX}{name}")

    def _is_better(self, bits: float) -> bool:
        return self.bits_per_byte is None or bits < self.bits_per_byte

    def _take(self, place: Path, marker: dict[str, Any]) -> None:
        self._place, self._sha256 = place, marker["sha256"]
        self.step, self.bits_per_byte = marker["step"], marker["bits_per_byte"]

    def _places(self) -> list[Path]:
        """The whole ones, the earliest first."""
        if not self._folder.is_dir():
            return []
        return sorted(path for path in self._folder.iterdir() if _NAME.fullmatch(path.name))

    def _tidy(self) -> None:
        """Delete all but the best, and what killed processes left."""
        if not self._folder.is_dir():
            return
        unfinished = self._folder.glob(f"{TEMPORARY_PREFIX}*")
        for path in [*unfinished, *self._places()]:
            if path == self._place:
                continue
            if path.name.startswith(TEMPORARY_PREFIX):
                shutil.rmtree(path)
                continue
            # It loses its name before its files: a kill in between must not leave what looks whole.
            doomed = path.with_name(f"{TEMPORARY_PREFIX}{path.name}")
            path.rename(doomed)
            shutil.rmtree(doomed)


def take_from(checkpoint: Path, folder: Path) -> None:
    """Make `folder` hold the best weights that a checkpoint has, and no others.

    A run that goes on from there has not seen any later ones. What the checkpoint says of them may
    come from a remote, so it is not trusted: raises PipelineError if it makes no sense.
    """
    shutil.rmtree(folder, ignore_errors=True)
    marker = checkpoint / f"{PREFIX}{MARKER}"
    if not marker.is_file():
        return
    if not (checkpoint / f"{PREFIX}{WEIGHTS}").is_file():
        raise _damaged(marker, _OTHER)
    values = _read_marker(checkpoint, marker.name, _OTHER)
    place = folder / f"step-{values['step']:08d}-{values['sha256'][:8]}"
    place.mkdir(parents=True)
    for name in (WEIGHTS, MARKER):
        shutil.copyfile(checkpoint / f"{PREFIX}{name}", place / name)


def _save(model: Any, folder: Path, step: int, bits: float) -> dict[str, Any]:
    """Write weights, then the marker, to the disk; returns what the marker says."""
    from safetensors.torch import save_file

    weights = folder / WEIGHTS
    parts = trained_parts(model).items()
    save_file({name: part.detach().cpu().contiguous() for name, part in parts}, weights)
    weights.chmod(0o644)
    sync(weights)
    marker = {"step": step, "bits_per_byte": bits, "sha256": sha256_file(weights)}
    write_json(folder / MARKER, marker)
    folder.chmod(0o755)
    sync(folder)
    return marker


def _shapes(tensors: "dict[str, torch.Tensor]") -> dict[str, Any]:
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}


def _read_marker(place: Path, name: str = MARKER, hint: str | None = None) -> dict[str, Any]:
    path = place / name
    try:
        marker = json.loads(path.read_text("utf-8"))
        step, bits, digest = marker["step"], marker["bits_per_byte"], marker["sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, hint) from error
    is_sound = type(step) is int and step >= 0 and type(bits) is float and math.isfinite(bits)
    if not is_sound or not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise _damaged(path, hint)
    return {"step": step, "bits_per_byte": bits, "sha256": digest}


def _damaged(path: Path, hint: str | None = None) -> PipelineError:
    return PipelineError(
        f"The best weights of the run are damaged: {path} is not what was saved.",
        hint or f"Delete {path.parent.parent} and train again.",
    )
