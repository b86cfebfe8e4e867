"""The series of rollup rows: each combination of labels once, under a number.

Rows with less detail are numbered alike: a *kind* is a series without its credential, the same rows added up over all credentials
of an organization, which are far fewer.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from msgspec.structs import replace
from sqlalchemy import Connection, select

from tallygate.domain.usage_event import UNREGISTERED
from tallygate.ledger.database import Database
from tallygate.ledger.entry import Entry
from tallygate.ledger.readable import Readable
from tallygate.ledger.schema import SERIES

SERIES_PER_ORG_MAX: Final = 20_000  # including those with less detail; beyond it a new one is counted under the model `other`
MODELS_PER_ORG_MAX: Final = 200  # names without a price may be a caller's invention: beyond it a new one is `other`
OTHER_MODEL: Final = "other"
OTHER_CREDENTIAL: Final = "other"
_ORGS_AT_ONCE: Final = 500  # in one IN (...)
CREDENTIALS_FREE_MAX: Final = 200  # of an organization: beyond it a client that only signed tokens name is `other`


class Series(NamedTuple):
    """The labels of one rollup series; columns of `series` have these names."""

    org: str
    credential: str
    capability: str
    model: str
    endpoint: str
    status: int
    outcome: str
    refused_by: str = ""


def series_of(entry: Entry) -> Series:
    return Series(
        entry.org,
        entry.credential,
        entry.capability,
        entry.model,
        entry.endpoint,
        entry.status,
        entry.outcome,
    )


class Detail(StrEnum):
    """Labels that rollup rows keep, beside the organization."""

    SERIES = "series"
    RECENT = "recent"  # of series: what is not in the rows of other details and lengths yet
    KIND = "kind"
    CREDENTIAL = "credential"
    ORG = "org"


# Details with fewer rows come first. Rows of one without labels have the number 0.
KEPT: Final[Mapping[Detail, frozenset[str]]] = {
    Detail.ORG: frozenset(),
    Detail.CREDENTIAL: frozenset({"credential"}),
    Detail.KIND: frozenset(Series._fields) - {"org", "credential"},
    Detail.SERIES: frozenset(Series._fields) - {"org"},
}
_NUMBERED: Final = tuple(detail for detail, kept in KEPT.items() if kept)


def folded(series: Series, detail: Detail) -> Series:
    """The series of a row with this detail: labels that it does not keep are empty."""
    match detail:
        case Detail.SERIES | Detail.RECENT:
            return series
        case Detail.KIND:
            return Series(series.org, "", *series[2:])
        case Detail.CREDENTIAL:
            return Series(series.org, series.credential, "", "", "", 0, "")
        case Detail.ORG:
            return Series(series.org, "", "", "", "", 0, "")


class SeriesNumbers:
    """A process's cache of series numbers. A number never changes; those of a transaction count once it is committed.

    A transaction of SQLite reads it in another thread than the one that keeps what the transaction before made.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._orgs: dict[str, dict[Series, int]] = {}
        self._rows: dict[Series, Mapping[Detail, int]] = {}  # numbers in every detail, of series that count under their own name

    def numbers(
        self, connection: Connection, wanted: Iterable[Series], *, priced: Callable[[], Collection[tuple[str, str]]] = tuple
    ) -> "Numbering":
        """The numbers of all `wanted` in every detail; new ones are made within the connection's transaction.

        priced   (organization, model) of models in the price list: they always keep their name
        """
        distinct = set(wanted)
        kept = {series: numbers for series in distinct if (numbers := self._rows.get(series)) is not None}
        if len(kept) == len(distinct):
            return Numbering({}, kept, {})
        found = self._find(connection, sorted(distinct - kept.keys()), priced)
        return found._replace(numbers={**kept, **found.numbers})

    def _find(
        self, connection: Connection, wanted: Sequence[Series], priced: Callable[[], Collection[tuple[str, str]]]
    ) -> "Numbering":
        fresh: dict[str, dict[Series, int]] = {}
        folds: dict[Series, dict[Detail, Series]] = {}
        names: dict[Series, dict[Series, int]] = {}  # with what is known of their organization
        models: dict[str, set[str]] = {}  # of organizations with a new one
        for series in wanted:
            known = self._orgs.get(series.org) or fresh.get(series.org)
            if known is None:
                known = fresh[series.org] = self._load(connection, series.org)
            name = series
            if series not in known:
                named = models.get(series.org)
                if named is None:
                    named = models[series.org] = {one.model for one in list(known)} - {""}
                is_invented = bool(series.model) and series.model not in named and (series.org, series.model) not in priced()
                if len(known) >= SERIES_PER_ORG_MAX or (is_invented and len(named) >= MODELS_PER_ORG_MAX):
                    name = series._replace(model=OTHER_MODEL)
                if name.model:
                    named.add(name.model)
            folds[series] = {detail: folded(name, detail) for detail in _NUMBERED}
            names |= dict.fromkeys(folds[series].values(), known)
        found = {name: known[name] for name, known in names.items() if name in known}
        found |= self._make(connection, sorted(names.keys() - found.keys()))  # in one order, so that two writers cannot deadlock
        numbers: dict[Series, Mapping[Detail, int]] = {
            series: {Detail.ORG: 0} | {detail: found[fold] for detail, fold in of_series.items()}
            for series, of_series in folds.items()
        }
        return Numbering(found, numbers, fresh)

    def named(self, connection: Connection, entries: Sequence[Entry]) -> list[Entry]:
        """The entries, with unregistered clients counted as `other` if their organization has too many names.

        Otherwise anyone who can obtain tokens for arbitrary clients could create a series of every sum for each.
        """
        credentials: dict[str, set[str]] = {}
        found = []
        for entry in entries:
            if entry.flags and UNREGISTERED in entry.flags.split(","):
                known = credentials.get(entry.org)
                if known is None:
                    series = self._orgs.get(entry.org) or self._load(connection, entry.org)
                    known = credentials[entry.org] = {one.credential for one in list(series)}
                if entry.credential not in known and len(known) >= CREDENTIALS_FREE_MAX:
                    found.append(replace(entry, credential=OTHER_CREDENTIAL))
                    continue
                known.add(entry.credential)
            found.append(entry)
        return found

    def keep(self, numbering: "Numbering") -> None:
        """Accept the new numbers. Called after the commit."""
        if not numbering.found:
            return  # as a rule all are known
        for org, known in numbering.fresh.items():
            self._orgs.setdefault(org, known)
        for series, number in numbering.found.items():
            self._orgs[series.org][series] = number
        for series, numbers in numbering.numbers.items():
            if series in self._orgs[series.org]:
                self._rows[series] = numbers

    def _load(self, connection: Connection, org: str) -> dict[Series, int]:
        rows = connection.execute(select(SERIES.c.id, *_LABELS).where(SERIES.c.org == org))
        return {Series(*labels): number for number, *labels in rows}

    def _make(self, connection: Connection, names: Sequence[Series]) -> dict[Series, int]:
        made = self._database.insert_numbered(connection, SERIES, names)
        for name in names:
            if name not in made:  # another writer made it meanwhile
                same = [SERIES.c[label] == value for label, value in name._asdict().items()]
                made[name] = connection.execute(select(SERIES.c.id).where(*same)).scalar_one()
        return {name: made[name] for name in names}


class Numbering(NamedTuple):
    """Resolved series.

    found     by label
    numbers   of the rows in each detail, of every series that was wanted; beyond the maximum they are another's
    fresh     loaded meanwhile
    """

    found: dict[Series, int]
    numbers: dict[Series, Mapping[Detail, int]]
    fresh: dict[str, dict[Series, int]]


_LABELS: Final = tuple(SERIES.c[name] for name in Series._fields)


class SeriesLabels:
    """The labels that a ledger has seen. Raises LedgerUnavailableError if the database does not answer.

    Removed credentials are included, since they may still have usage.
    """

    def __init__(self, database: Readable) -> None:
        self._database = database

    async def orgs_besides(self, known: Collection[str], after: str, limit: int) -> list[str]:
        """Organizations with usage or refusals that are not among `known`, in order, from those after a name on."""
        found: list[str] = []
        without = frozenset(known)
        async with self._database.read() as connection:
            while len(found) < limit:
                statement = select(SERIES.c.org).where(SERIES.c.org > after).distinct().order_by(SERIES.c.org).limit(_ORGS_AT_ONCE)
                orgs = list((await connection.execute(statement)).scalars())
                found += [org for org in orgs if org and org not in without]
                if len(orgs) < _ORGS_AT_ONCE:
                    break
                after = orgs[-1]
        return found[:limit]

    async def seen(self, orgs: Sequence[str], dimension: str, labels: Collection[str]) -> frozenset[str]:
        """The labels among `labels` under which these organizations have usage or refusals, however old."""
        column = SERIES.c[dimension]
        found: set[str] = set()
        async with self._database.read() as connection:
            for start in range(0, len(orgs), _ORGS_AT_ONCE):
                part = orgs[start : start + _ORGS_AT_ONCE]
                statement = select(column).where(SERIES.c.org.in_(part), column.in_(sorted(labels))).distinct()
                found.update((await connection.execute(statement)).scalars())
        return frozenset(found)
