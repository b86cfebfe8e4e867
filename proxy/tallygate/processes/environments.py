"""What each child finds in its environment: its settings, and of secrets those alone that it needs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tallygate.app.role import Role
from tallygate.config.secret_variables import secret_variables
from tallygate.config.settings import Settings, variable_name

# The embedded store is somebody else's program: it gets what any program needs to run, and nothing that has a meaning of ours.
_PLAIN: Final = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|TERM|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|VIRTUAL_ENV|PYTHON\w*|LD_LIBRARY_PATH"
)
_UPSTREAMS: Final = frozenset({"upstream_api_key"})
_CONSOLE: Final = frozenset({"admin_token", "metrics_token"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Environments:
    """By child. console: the process behind the console's port, whatever the role."""

    worker: Mapping[str, str]
    console: Mapping[str, str]
    valkey: Mapping[str, str]


def environments(role: Role, settings: Settings, environ: Mapping[str, str]) -> Environments:
    """environ: all that the role was given, flags included."""
    of_workers = secret_variables(settings.config_dir, "upstreams.yaml") | secret_variables(
        settings.config_dir, "authentication.yaml"
    )
    of_webhooks = secret_variables(settings.config_dir, "webhooks.yaml")
    webhooks_here = of_webhooks if role.keeps_ledger else frozenset()
    return Environments(
        worker=_without(environ, settings=_CONSOLE, named=of_webhooks - of_workers),
        console=_without(environ, settings=_UPSTREAMS, named=(of_workers | of_webhooks) - webhooks_here),
        valkey={name: value for name, value in environ.items() if _PLAIN.fullmatch(name)},
    )


def _without(environ: Mapping[str, str], *, settings: frozenset[str], named: frozenset[str]) -> dict[str, str]:
    """settings: fields, which may lie in a variable or in a file that one names; named: variables."""
    dropped = {variable_name(field) for field in settings} | {f"{variable_name(field)}_FILE" for field in settings} | named
    return {name: value for name, value in environ.items() if name not in dropped}
