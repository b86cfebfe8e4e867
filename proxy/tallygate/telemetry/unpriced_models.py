"""Names of models that lack a price: in the log, and for a week in files of the data directory, which `tallygate check` reads.

Callers make names up. So many of one organization and of all are noted, in an hour by the log and in a day by the file; the metric
counts every request. `<owner>.<day>.jsonl` has one JSON line per model and organization: [Unix ms, organization, model, policy].
"""

import json
import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tallygate.telemetry.log import without_secrets

DIRECTORY: Final = "unpriced_models"  # within the data directory
NAMES_OF_AN_ORGANIZATION_MAX: Final = 10
NAMES_MAX: Final = 200
NAMES_OF_A_DAY_MAX: Final = 2_000
DAYS_KEPT: Final = 7
# Beside the policies of plans: the model has a price, but none for something that was used. Also a flag of usage events.
UNPRICED_UNITS: Final = "unpriced_units"
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
_CHARS_MAX: Final = 100
_LINE_BYTES_MAX: Final = 2_048
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UnpricedModel:
    """A model that was asked for. policy: what became of the request, a plan's `unknown_model` or UNPRICED_UNITS."""

    at_ms: int
    org: str
    model: str
    policy: str


class _Names:
    """Names of one period, each once of an organization, boundedly."""

    def __init__(self, names_max: int) -> None:
        self.period = -1
        self._max = names_max
        self._names: set[tuple[str, str]] = set()
        self._of: Counter[str] = Counter()

    def begin(self, period: int) -> None:
        self.period, self._names, self._of = period, set(), Counter()

    def add(self, org: str, model: str) -> bool:
        """Return whether the name is new and within the bounds."""
        key = (org, model)
        if key in self._names or len(self._names) >= self._max or self._of[org] >= NAMES_OF_AN_ORGANIZATION_MAX:
            return False
        self._names.add(key)
        self._of[org] += 1
        return True


class UnpricedModels:
    """Notes the names of one worker. directory: of the files; None: only the log has them. owner: the worker's slot."""

    def __init__(self, directory: Path | None = None, owner: str = "") -> None:
        self._directory = directory
        self._owner = owner
        self._logged = _Names(NAMES_MAX)
        self._kept = _Names(NAMES_OF_A_DAY_MAX)
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def note(self, model: str, org: str, policy: str, *, now_ms: int) -> None:
        """Note a request of `org` for `model`. policy: see UnpricedModel."""
        name = without_secrets(model[:_CHARS_MAX])  # people paste their keys where a model belongs
        if now_ms // _HOUR_MS != self._logged.period:
            self._logged.begin(now_ms // _HOUR_MS)
        if self._logged.add(org, name):
            lacking = "no price for some units of" if policy == UNPRICED_UNITS else "no price for"
            _log.warning("%s the model %s, asked for by %s: %s", lacking, ascii(name), org, policy)
        if self._directory is not None:
            try:
                self._keep(self._directory, UnpricedModel(now_ms, org, name, policy))
            except OSError as error:
                _log.warning("the model cannot be noted for `tallygate check`: %s", error)

    def _keep(self, directory: Path, found: UnpricedModel) -> None:
        day = found.at_ms // _DAY_MS
        path = directory / f"{self._owner}.{_date(day)}.jsonl"
        if day != self._kept.period:
            self._kept.begin(day)
            for before in _read(path):  # of the slot's predecessor
                self._kept.add(before.org, before.model)
            for old in directory.glob("*.jsonl"):
                if old.name.split(".")[-2] < _date(day - DAYS_KEPT):
                    old.unlink(missing_ok=True)
        if not self._kept.add(found.org, found.model):
            return
        line = json.dumps([found.at_ms, found.org, found.model, found.policy], separators=(",", ":")).encode()
        if len(line) > _LINE_BYTES_MAX:
            return
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, b"\n" + line)  # the line before may be torn
        finally:
            os.close(file)


def unpriced_lately(directory: Path, *, now_ms: int) -> list[UnpricedModel]:
    """What all workers noted in the last DAYS_KEPT days, the latest first. Raises OSError; FileNotFoundError: none ever served."""
    paths = [entry.path for entry in os.scandir(directory) if entry.name.endswith(".jsonl")]
    found = [each for path in sorted(paths) for each in _read(Path(path)) if each.at_ms > now_ms - DAYS_KEPT * _DAY_MS]
    return sorted(found, key=lambda each: -each.at_ms)


def _read(path: Path) -> Iterator[UnpricedModel]:
    """Lines that are torn or of another form are left out."""
    try:
        with path.open("rb") as file:
            lines = file.read((NAMES_OF_A_DAY_MAX + 1) * _LINE_BYTES_MAX).splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            at_ms, org, model, policy = json.loads(line)
        except (ValueError, TypeError):
            continue
        if isinstance(at_ms, int) and all(isinstance(text, str) for text in (org, model, policy)):
            yield UnpricedModel(at_ms, org, model, policy)


def _date(day: int) -> str:
    return datetime.fromtimestamp(day * _DAY_MS / 1000, UTC).strftime("%Y-%m-%d")
