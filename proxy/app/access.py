"""Who may see the console's port."""

import hashlib

from proxy.config.settings import Settings


def admin_token_sha256(settings: Settings) -> bytes | None:
    """Digest of the admin token that /metrics asks for; None on loopback, where it asks for none."""
    host = settings.console_listen.rpartition(":")[0]
    return None if host in {"127.0.0.1", "localhost", "[::1]"} else platform_token_sha256(settings)


def platform_token_sha256(settings: Settings) -> bytes:
    """Digest of the token of the settings, or of the one made at the first start: it may do everything."""
    token = settings.admin_token.get_secret_value()
    if token:
        return hashlib.sha256(token.encode()).digest()
    return bytes.fromhex((settings.data_dir / "admin_token.sha256").read_text(encoding="ascii"))
