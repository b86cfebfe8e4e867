"""The name under which a ledger takes events from the limiter's streams."""

import secrets
from pathlib import Path


def ledger_name(data_dir: Path) -> str:
    """The same over restarts, so that a ledger finds at once what it had not finished; no two ledgers have the same."""
    path = data_dir / "ledger_name"
    if not path.exists():
        path.write_text(f"ledger-{secrets.token_hex(8)}", encoding="ascii")
    return path.read_text(encoding="ascii")
