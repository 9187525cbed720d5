"""Which files hold the weights of a base model, how large they are, and whether there is room."""

import shutil
from collections.abc import Container
from pathlib import Path

from pipeline.console import megabytes
from pipeline.errors import PipelineError
from pipeline.files import read_json_object

# What transformers loads, and in this order. Other files beside them, such as Mistral's
# consolidated.safetensors, are the same weights once more.
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"


def weight_files(path: Path, names: Container[str]) -> list[str]:
    """The files that hold the weights of the model in `path`, of those that there are.

    Raises PipelineError if there are none that transformers would load, or not all.
    """
    if WEIGHTS in names:
        return [WEIGHTS]
    wanted: list[str] = []
    if (path / WEIGHTS_INDEX).is_file():
        found = read_json_object(path / WEIGHTS_INDEX).get("weight_map")
        values = list(found.values()) if isinstance(found, dict) else []
        wanted = sorted({name for name in values if isinstance(name, str)})
    if not wanted:
        raise PipelineError(
            f"The base model directory {path} has no *.safetensors weights ({WEIGHTS}).",
            "Weights in other formats (*.bin) can run code when loaded: convert them first.",
        )
    for name in wanted:
        if "/" in name or not name.endswith(".safetensors") or name not in names:
            raise PipelineError(
                f"The base model directory {path} lacks {name[:100]!r}, which its {WEIGHTS_INDEX} "
                "names.",
                "Fetch it again, or choose another base model.",
            )
    return wanted


def check_download_room(what: str, size: int, folder: Path) -> None:
    """Raise PipelineError if the disk of `folder`, which need not be there yet, has no room for
    `size` bytes that are to be fetched into it."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if size > free:
        raise PipelineError(
            f"The download of {what} is {megabytes(size)}, and the disk of {place} has "
            f"{megabytes(free)} free.",
            "Free some, or name a folder on another disk with HF_HOME.",
        )


def sizes_on_hub(repo_id: str, folder: Path) -> dict[str, int]:
    """The files of a model from the Hub, as it lists them, with their sizes in bytes.

    `folder` is where it is in the Hub's cache, named for its commit. The listing came there with
    the first files; where it did not, what is on this disk is all that is known.
    """
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        listed = get_cached_repo_tree(repo_id, revision=folder.name)
    except CachedRepoTreeNotFoundError:
        return {path.name: path.stat().st_size for path in folder.iterdir()}
    return {file.path: file.size for file in listed}
