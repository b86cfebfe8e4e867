"""What `tallygate check` finds wrong with a configuration directory."""

from collections.abc import Collection, Mapping
from pathlib import Path

from proxy.config.load import load_config
from proxy.domain.errors import ConfigError


def check(
    directory: Path | None,
    *,
    shipped_dir: Path,
    known_dialects: Collection[str],
    environ: Mapping[str, str],
    default_url: str = "",
    default_api_key: str = "",
    forwards: bool = True,
    sends_webhooks: bool = True,
) -> tuple[str, ...]:
    """Every problem, one "file:line: what, and the fix" each; empty if the configuration can be used. Changes nothing."""
    try:
        load_config(
            directory,
            shipped_dir=shipped_dir,
            known_dialects=known_dialects,
            environ=environ,
            default_url=default_url,
            default_api_key=default_api_key,
            forwards=forwards,
            sends_webhooks=sends_webhooks,
        )
    except ConfigError as error:
        return error.problems
    return ()
