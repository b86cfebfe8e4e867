"""Prices of cached tokens for catalogues with only input and output rates: ratios to the input rate, by family."""

from dataclasses import dataclass
from typing import Annotated, Final

from tallygate.config.declared import read_declared
from tallygate.config.kinds import Decimal
from tallygate.config.section import Section
from tallygate.domain.declared import declared_fields
from tallygate.domain.ratio import ratio, times
from tallygate.domain.unit import Unit

FAMILIES_MAX: Final = 100
EVERY_OTHER: Final = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRatios:
    """Ratios to the input rate in millionths, by kind of token; None: as input."""

    cached_input: Annotated[int | None, Decimal("Of tokens read from the prompt cache.", parse=ratio)] = None
    cache_write_5m: Annotated[int | None, Decimal("Of tokens written to it for 5 minutes.", parse=ratio)] = None
    cache_write_1h: Annotated[int | None, Decimal("Of tokens written to it for an hour.", parse=ratio)] = None

    def rates(self, input_rate: int) -> dict[str, int]:
        """The rates that are stated, by unit, in pico-USD per token, each rounded up."""
        stated = {unit: getattr(self, unit) for unit in (Unit.CACHED_INPUT, Unit.CACHE_WRITE_5M, Unit.CACHE_WRITE_1H)}
        return {unit: times(input_rate, of_input) for unit, of_input in stated.items() if of_input is not None}


RATIO_FIELDS: Final = declared_fields(CacheRatios)
FamilyRatios = tuple[tuple[str, CacheRatios], ...]  # by family in lower case
AS_INPUT: Final = CacheRatios()

# platform.claude.com/docs/en/build-with-claude/prompt-caching, "Pricing": writes kept for 5 minutes cost 1.25 times base input,
# those kept for an hour 2 times, and reads 0.1 times. Ratios of other providers differ from model to model.
DEFAULT_RATIOS: Final[FamilyRatios] = (
    ("anthropic", CacheRatios(cached_input=100_000, cache_write_5m=1_250_000, cache_write_1h=2_000_000)),
)


def read_cache_ratios(upstream: Section) -> FamilyRatios:
    """Parse an upstream's `cache_ratios`, which replace the default entirely."""
    section = upstream.section("cache_ratios")
    if section is None:
        return DEFAULT_RATIOS
    found: dict[str, CacheRatios] = {}
    if len(section.keys()) > FAMILIES_MAX:
        section.place.problem(f"must have at most {FAMILIES_MAX} families")
        return ()
    for family in list(section.keys()):
        ratios = section.section(family)
        if ratios is None:
            continue
        found[family.lower()] = CacheRatios(**read_declared(ratios, RATIO_FIELDS))
        ratios.close()
    section.close()
    return tuple(found.items())


def ratios_of(family: str, ratios: FamilyRatios) -> CacheRatios:
    """The ratios of a family in lower case, else those of `"*"`, else none."""
    by_family = dict(ratios)
    return by_family.get(family, by_family.get(EVERY_OTHER, AS_INPUT))
