"""Requests that the workers refused, out of their count files, for rollups and lifetime totals."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tallygate.domain.errors import ErrorCode
from tallygate.ledger.book import RefusalCount
from tallygate.telemetry.count_file import CountReader, owners
from tallygate.telemetry.metrics import REFUSED
from tallygate.telemetry.worker_state import identity_of

_LIMIT_STATUS: Final = 429  # what is no error code is the name of a limit
_STATUS: Final[Mapping[str, int]] = {code.value: code.status for code in ErrorCode}


class WorkerRefusals:
    """Reads the count files of one machine's workers."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._reader = CountReader(directory)

    def read(self) -> list[tuple[str, list[RefusalCount]]]:
        """By worker slot, what each organization was refused since the slot first counted; `other` where there was none.

        A slot's name is followed by its file's identity: workers of many machines count for one ledger, and all have a slot 0.
        """
        found = []
        for owner in owners(self._directory):
            series = self._reader.read(owner)
            counts = [
                RefusalCount(
                    org=labels[0],
                    credential=labels[1],
                    capability=labels[2],
                    refused_by=labels[3],
                    status=_STATUS.get(labels[3], _LIMIT_STATUS),
                    requests=cells[0],
                )
                for (metric, labels), cells in series.items()
                if metric == REFUSED.name and cells[0] > 0
            ]
            if counts:
                identity = identity_of(series)
                found.append((f"{owner}-{identity:x}" if identity else owner, counts))
        return found
