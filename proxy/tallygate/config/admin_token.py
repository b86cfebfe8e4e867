"""The admin token that a first start makes, and shows once: the data directory keeps its digest."""

import hashlib
from pathlib import Path
from typing import Final

ADMIN_TOKEN: Final = "admin_token.sha256"  # noqa: S105 - the name of a file


def kept_admin_digest(data_dir: Path) -> bytes | None:
    """SHA-256 of the token; None if none was made, or if the disk had no room for its digest. Raises OSError."""
    try:
        digest = bytes.fromhex((data_dir / ADMIN_TOKEN).read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return None
    return digest if len(digest) == hashlib.sha256().digest_size else None
