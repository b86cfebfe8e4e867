"""`running.json` in the data directory: what serves on it, and with which settings, for the commands beside it.

No password is written: an address that has one is kept with its place empty, beside the file that it was read from, if any.
"""

import fcntl
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from tallygate.app.role import Role
from tallygate.config.secret_file import read_secret_file
from tallygate.config.settings import Settings, secret_fields, variable_name
from tallygate.domain.errors import ConfigError
from tallygate.processes.data_directory import LOCK_FILE

STORES: Final = ("redis_url", "database_url")
_FILE: Final = "running.json"
_FILE_BYTES_MAX: Final = 2**16
# RFC 3986 section 3.2.1 for `user:password@`; drivers also take a password among the parameters
_PASSWORD: Final = re.compile(r"(?<=://)([^/@:]*):.*(?=@)|(?<=[?&])((?:ssl|sentinel_)?password)=[^&]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningSettings:
    """What served on a data directory last.

    is_running   whether it still does
    given        the settings that were given to it, as text by field; addresses of stores without their passwords
    files        by field of a store: the file from which its address was read
    """

    role: str
    is_running: bool
    gateway_url: str | None
    console_url: str
    given: Mapping[str, str]
    files: Mapping[str, str]

    def value(self, field: str) -> str | None:
        """The setting as text; None if none was given. Raises ConfigError for an address whose password is nowhere."""
        found = self.given.get(field)
        if found is None or "[password]" not in found:
            return found
        if field in self.files:
            try:
                return read_secret_file(Path(self.files[field]))
            except ValueError as error:
                raise ConfigError((f"{variable_name(field)}_FILE {error}",)) from error
        raise ConfigError((f"tallygate {self.role} uses {found}, whose password is not written down: set {variable_name(field)}",))

    def differs(self, field: str, value: object) -> bool:
        """Return whether a setting, as Settings has it, is another than what serves."""
        return _text(field, value) != self.given.get(field, "")


def keep_running_settings(
    root: Path, role: Role, settings: Settings, environ: Mapping[str, str], *, gateway_url: str | None, console_url: str
) -> None:
    """Write the file, for this user alone. root: the data directory, whose lock is held."""
    kept = [name for name in settings.model_fields_set - {"data_dir"} if name in STORES or name not in secret_fields()]
    given = {name: _text(name, getattr(settings, name)) for name in sorted(kept)}
    files = {name: path for name in STORES if (path := environ.get(f"{variable_name(name)}_FILE")) and name in given}
    found = {
        "role": role.value,
        "gateway_url": gateway_url,
        "console_url": console_url,
        "given": {name: text for name, text in given.items() if text},
        "files": {name: str(Path(path).resolve()) for name, path in files.items()},
    }
    new = root / f".{_FILE}.{os.getpid()}"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(found, file, indent=1)
    new.replace(root / _FILE)


def read_running_settings(root: Path) -> RunningSettings | None:
    """Read what serves, or served last, on a data directory; None if nothing did, or if its file cannot be read."""
    try:
        with (root / _FILE).open("rb") as file:
            found = json.loads(file.read(_FILE_BYTES_MAX))
        return RunningSettings(
            role=str(found["role"]),
            is_running=_is_locked(root / LOCK_FILE),
            gateway_url=found["gateway_url"],
            console_url=str(found["console_url"]),
            given={str(name): str(text) for name, text in found["given"].items() if name in Settings.model_fields},
            files={str(name): str(path) for name, path in found["files"].items()},
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def without_password(address: str) -> str:
    """The address of a store, to be shown."""
    return _PASSWORD.sub(lambda found: f"{found[2]}=[password]" if found[2] else f"{found[1]}:[password]", address)


def absolute_database_url(address: str) -> str:
    """The address of a database; that of a SQLite file from the root on, since commands run in other directories."""
    if not address.startswith("sqlite"):
        return address
    try:
        url = make_url(address)
    except ArgumentError:
        return address
    if not url.database:
        return address
    return url.set(database=str(Path(url.database).resolve())).render_as_string(hide_password=False)


def _text(field: str, value: object) -> str:
    if isinstance(value, Path):
        return str(value.resolve())
    if field not in STORES:
        return "" if value is None else str(value)
    secret = str(getattr(value, "get_secret_value", lambda: "")())
    return without_password(absolute_database_url(secret) if field == "database_url" else secret)


def _is_locked(path: Path) -> bool:
    """Return whether a process that serves holds the lock. Takes nothing away: one that starts meanwhile waits for it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
