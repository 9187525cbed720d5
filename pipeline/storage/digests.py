"""What a store may say about the content of a file, so that it need not be read back."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PART = 16 * 2**20  # bytes of a part of an upload to S3
_PIECE = 4 * 2**20


@dataclass(frozen=True)
class Digests:
    """Checksums of a file, as the stores have them; in hex."""

    size: int
    sha256: str
    md5: str
    parts: str  # S3's ETag of a file that was sent in parts
    git: str  # the name of the content in a Git repository

    @classmethod
    def of(cls, path: Path) -> "Digests":
        """Read a file once, for all of them."""
        size = path.stat().st_size
        sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        git = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        parts: list[bytes] = []
        part, filled = hashlib.md5(usedforsecurity=False), 0
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                for digest in (sha256, md5, git, part):
                    digest.update(piece)
                filled += len(piece)
                if filled >= PART:
                    parts.append(part.digest())
                    part, filled = hashlib.md5(usedforsecurity=False), 0
        if filled:
            parts.append(part.digest())
        joined = hashlib.md5(b"".join(parts), usedforsecurity=False).hexdigest()
        return cls(
            size, sha256.hexdigest(), md5.hexdigest(), f"{joined}-{len(parts)}", git.hexdigest()
        )

    def proven_by(self, info: Mapping[str, Any]) -> bool:
        """Whether what a store says of a file proves that it has this content.

        False means only that it does not: a store that encrypts has other ETags.
        """
        lfs = info.get("lfs")
        said = {
            str(info.get("ETag", "")).strip('"'): (self.md5, self.parts),  # S3
            str(info.get("md5Hash", "")): (base64.b64encode(bytes.fromhex(self.md5)).decode(),),
            str(getattr(lfs, "sha256", "") or ""): (self.sha256,),  # the Hub
            str(info.get("blob_id") if not lfs else ""): (self.git,),
        }
        return any(value in known for value, known in said.items())
