"""The reviewed configuration of a process."""

import os
from collections.abc import Callable, Mapping

from tallygate.config.catalogue import PriceCatalogue
from tallygate.config.holder import ConfigHolder
from tallygate.config.in_force import InForceFile
from tallygate.config.load import ConfigSource
from tallygate.config.model import GatewayConfig
from tallygate.config.settings import Settings
from tallygate.config.shipped import shipped_directory
from tallygate.dialects.registry import dialects
from tallygate.domain.errors import ConfigError
from tallygate.outbound.way_out import WayOut, way_out


def config_source(
    settings: Settings, environ: Mapping[str, str], *, forwards: bool = True, sends_webhooks: bool = True, signs_in: bool = False
) -> ConfigSource:
    """The source of this process's reviewed configuration. forwards, sends_webhooks, signs_in: what it needs secrets for.

    Raises ConfigError for proxies and authorities that cannot be used.
    """
    return ConfigSource(
        directory=settings.config_dir,
        shipped_dir=shipped_directory(),
        known_dialects=dialects().traits,
        default_url=settings.upstream_url,
        default_api_key=settings.upstream_api_key.get_secret_value(),
        environ=environ,
        forwards=forwards,
        sends_webhooks=sends_webhooks,
        signs_in=signs_in,
        way=process_way_out(settings, environ),
    )


def process_way_out(settings: Settings, environ: Mapping[str, str]) -> WayOut:
    """The proxies and authorities of this process. Raises ConfigError."""
    return way_out(environ, ca_file=settings.upstream_ca_file)


def config_holder(
    settings: Settings, *, forwards: bool = False, sends_webhooks: bool = False, signs_in: bool = False
) -> ConfigHolder:
    """Read the configuration, for a command. Raises ConfigError."""
    load = _load_for(settings, forwards=forwards, sends_webhooks=sends_webhooks, signs_in=signs_in)
    return ConfigHolder(load(), load)


def served_config_holder(
    settings: Settings, *, forwards: bool = False, sends_webhooks: bool = False, signs_in: bool = False
) -> ConfigHolder:
    """Read the configuration, for a process that serves. Raises ConfigError, also for one that lacks what was in force before."""
    load = _load_for(settings, forwards=forwards, sends_webhooks=sends_webhooks, signs_in=signs_in)
    config, file = load(), InForceFile(settings.data_dir)
    if lost := file.read().losses(config):
        raise ConfigError(lost)
    file.keep(config)
    return ConfigHolder(config, load, keep=file.keep)


def _load_for(settings: Settings, *, forwards: bool, sends_webhooks: bool, signs_in: bool) -> Callable[[], GatewayConfig]:

    def load() -> GatewayConfig:  # with the authorities of TALLYGATE_UPSTREAM_CA_FILE as they are then
        return config_source(settings, os.environ, forwards=forwards, sends_webhooks=sends_webhooks, signs_in=signs_in).load()

    return load


def upstream_urls(settings: Settings) -> frozenset[str]:
    """The base URLs of upstreams in a valid configuration."""
    upstreams = config_source(settings, os.environ, sends_webhooks=False).load().upstreams
    return frozenset(upstream.base_url for upstream in upstreams.values())


def prices_of(settings: Settings) -> PriceCatalogue:
    """The prices of a valid configuration, without those that upstreams list themselves."""
    return config_source(settings, os.environ, forwards=False, sends_webhooks=False).load().prices


def config_problems(
    settings: Settings, *, forwards: bool = True, sends_webhooks: bool = True, signs_in: bool = True
) -> tuple[str, ...]:
    """Every problem of the reviewed configuration, each as "file:line: what, and the fix"."""
    try:
        source = config_source(settings, os.environ, forwards=forwards, sends_webhooks=sends_webhooks, signs_in=signs_in)
        return source.problems()
    except ConfigError as error:
        return error.problems
