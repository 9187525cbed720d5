"""Manners for the model libraries: no progress bars and no chatter of their own."""

import importlib.metadata
import logging
import warnings


def quiet_libraries() -> None:
    """Let our own progress be the only thing that moves; errors of the libraries still show."""
    # bitsandbytes speaks when it is imported, which the others do: of kernels that it could fetch.
    for name in ("bitsandbytes", "trl", "peft", "accelerate", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)

    import datasets
    import huggingface_hub.utils
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    huggingface_hub.utils.disable_progress_bars()
    # PEFT looks up the base model's config when it saves, and says so for every local path.
    warnings.filterwarnings("ignore", message=".*Could not find a config file in.*")


def versions(*packages: str) -> dict[str, str]:
    """The installed versions of these packages; those that are missing are left out."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
