"""The configuration in force, and its replacement while requests run."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from tallygate.config.in_force import InForce
from tallygate.config.model import GatewayConfig
from tallygate.config.reload_changes import Changes, changes
from tallygate.config.upstream_catalogue import UpstreamCatalogue
from tallygate.domain.errors import ConfigError
from tallygate.domain.organization import Organization
from tallygate.domain.price import Price


class ConfigHolder:
    """Holds the current configuration; `reload` replaces it in one step, or keeps the old one.

    A request reads `current` once, at its start, and uses it to its end.
    reloads, reloads_failed   counts for metrics
    changes                   what the last reload that was applied has changed
    """

    def __init__(
        self,
        config: GatewayConfig,
        load: Callable[[], GatewayConfig],
        *,
        keep: Callable[[GatewayConfig], None] = lambda _config: None,
    ) -> None:
        """keep: called in a thread with each configuration that a reload applies."""
        self._load = load
        self._keep = keep
        self._turn = asyncio.Lock()
        self._reviewed = config
        self._catalogues: dict[str, UpstreamCatalogue] = {}
        self.current = config
        self.reloads = 0
        self.reloads_failed = 0
        self.changes = Changes()

    async def reload(self) -> tuple[str, ...]:
        """Read the files again. Returns the problems: empty if the new configuration is in force, else the old one stays.

        Runs in a thread, so that requests continue, and one at a time: the last caller reads last, so no older state wins.
        """
        async with self._turn:
            try:
                config, self.changes = await asyncio.to_thread(self._load_after, self._reviewed)
            except ConfigError as error:
                self.reloads_failed += 1
                return error.problems
            self._reviewed = config
            with_catalogue = {upstream.name for upstream in config.upstreams.values() if upstream.catalogue_path}
            self._catalogues = {name: read for name, read in self._catalogues.items() if name in with_catalogue}
            self._merge()
            self.reloads += 1
            return ()

    def _load_after(self, old: GatewayConfig) -> tuple[GatewayConfig, Changes]:
        new = self._load()
        if lost := InForce.of(old).losses(new):
            raise ConfigError(lost)
        self._keep(new)
        return new, changes(old, new)

    def put_upstream_catalogue(self, upstream: str, catalogue: UpstreamCatalogue) -> None:
        """Use an upstream's own catalogue for prices, below prices.yaml; it survives reloads as long as the upstream has one."""
        self._catalogues[upstream] = catalogue
        self._merge()

    def _merge(self) -> None:
        if not self._catalogues:
            self.current = self._reviewed
            return
        prices: dict[str, Price] = {}
        families: dict[str, list[str]] = {}
        for _, catalogue in sorted(self._catalogues.items()):
            for price in catalogue.prices:
                prices.setdefault(price.model, price)
            for family, models in catalogue.families.items():
                families.setdefault(family, []).extend(models)
        listed = {family: tuple(models) for family, models in families.items()}
        self.current = replace(self._reviewed, prices=self._reviewed.prices.with_upstream(prices.values(), listed))


def with_stored(config: GatewayConfig, stored: Mapping[str, Organization]) -> GatewayConfig:
    """The configuration with the organizations from the database, by id.

    The file's come last: if an organization, Client ID or key is in both, the file's applies.
    """
    in_file = {organization.id for organization in config.organizations}
    others = [organization for org, organization in stored.items() if org not in in_file]
    return replace(config, organizations=(*others, *config.organizations)) if others else config


class LastWithStored:
    """`with_stored` of what changes seldom: of the very same two it is the very same configuration."""

    def __init__(self) -> None:
        self._last: tuple[GatewayConfig, Mapping[str, Organization], GatewayConfig] | None = None

    def of(self, config: GatewayConfig, stored: Mapping[str, Organization]) -> GatewayConfig:
        """stored: a mapping that nobody changes."""
        last = self._last
        if last is None or last[0] is not config or last[1] is not stored:
            last = self._last = config, stored, with_stored(config, stored)
        return last[2]
