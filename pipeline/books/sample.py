"""The sample library: twelve short tales that ship with the product, laid out like Project
Gutenberg files of every age, so that a first run needs neither network nor account."""

from pathlib import Path

from pipeline.errors import PipelineError


def sample_library() -> Path:
    """The folder that holds the tales as *.txt files."""
    folder = Path(__file__).resolve().parent / "sample_library"
    if not any(folder.glob("*.txt")):
        raise PipelineError(
            f"The sample library is missing: {folder} holds no text files.",
            "Install the package again.",
        )
    return folder
