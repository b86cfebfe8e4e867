"""Access to the console's port."""

import hashlib
import logging
from urllib.parse import urlsplit

from tallygate.app.clocks import now_ms
from tallygate.config.admin_token import kept_admin_digest
from tallygate.config.settings import Settings
from tallygate.config.sign_in_link import STARTED_LINK
from tallygate.config.urls import is_loopback
from tallygate.console.api_access import Access, PlatformToken
from tallygate.console.known_hosts import KnownHosts
from tallygate.domain.errors import ConfigError
from tallygate.ledger.database_errors import LedgerUnavailableError
from tallygate.ledger.directory import records
from tallygate.ledger.directory.sign_ins import LINK_MS, SignIns

_log = logging.getLogger(__name__)


def asked_token_sha256(settings: Settings) -> bytes | None:
    """The digest of a token that /metrics requires; None where only this machine reaches it. Raises ConfigError if unset.

    Behind a public address stands a proxy, whose requests come from loopback too, whatever they name as host.
    """
    host = settings.console_listen.rpartition(":")[0]
    reached_as = _public_host(settings)
    if host in {"127.0.0.1", "localhost", "[::1]"} and (not reached_as or is_loopback(reached_as)):
        return None
    found = _digest(settings.metrics_token.get_secret_value()) or _platform_sha256(settings)
    if found is None:
        where = "off loopback, or behind TALLYGATE_CONSOLE_URL"
        raise ConfigError((f"{where}, the console's port needs TALLYGATE_METRICS_TOKEN or TALLYGATE_ADMIN_TOKEN",))
    return found


def platform_token(settings: Settings) -> PlatformToken | None:
    """The token that may do everything, from the settings or from the first start; None if there is neither."""
    digest = _platform_sha256(settings)
    return None if digest is None else PlatformToken(digest)


def metrics_token(settings: Settings) -> PlatformToken | None:
    """The token that may read /metrics."""
    digest = _digest(settings.metrics_token.get_secret_value())
    return None if digest is None else PlatformToken(digest, actor="metrics", access=Access.METRICS)


def known_hosts(settings: Settings) -> KnownHosts:
    listens_on = settings.console_listen.rpartition(":")[0]
    names = {listens_on, _public_host(settings)} - {"", "0.0.0.0", "[::]"}  # noqa: S104 - compared
    return KnownHosts((*names, *settings.console_host_names))


async def keep_started_link(settings: Settings, sign_ins: SignIns) -> None:
    """Store the link that was shown as this process was started, whose digest lies in a file until then: it signs in once."""
    path = settings.data_dir / STARTED_LINK
    try:
        digest, is_old = path.read_text(encoding="ascii"), now_ms() - path.stat().st_mtime * 1000 >= LINK_MS
        path.unlink()
    except FileNotFoundError:
        return
    if not is_old:
        try:
            await sign_ins.keep_link("serve", digest, name="operator", access=records.Access.WRITE, orgs=None)
        except LedgerUnavailableError as error:
            _log.warning("the link to sign in that was shown does not work", extra={"fields": {"reason": str(error)}})


def _public_host(settings: Settings) -> str:
    return urlsplit(settings.console_url).hostname or ""


def _platform_sha256(settings: Settings) -> bytes | None:
    return _digest(settings.admin_token.get_secret_value()) or kept_admin_digest(settings.data_dir)


def _digest(token: str) -> bytes | None:
    return hashlib.sha256(token.encode()).digest() if token else None
