"""One door to files and objects: paths, file://, s3://, gs://, hf:// and http(s)://."""

from typing import TYPE_CHECKING, Any

from pipeline.storage.urls import Entry

if TYPE_CHECKING:
    from pipeline.storage.door import Storage

__all__ = ["Entry", "Storage"]


def __getattr__(name: str) -> Any:
    # The door brings asyncio along, which `pipeline --help` need not wait for.
    if name != "Storage":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pipeline.storage.door import Storage

    return Storage
