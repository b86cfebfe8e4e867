"""The environment of each child: its settings, and only the secrets that it needs."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from tallygate.app.role import Role
from tallygate.config.document import FILE_BYTES_MAX
from tallygate.config.settings import Settings, variable_name

# The embedded store is a foreign program: it gets what any program needs to run, and no variable of ours.
_PLAIN: Final = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|TERM|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|VIRTUAL_ENV|PYTHON\w*|LD_LIBRARY_PATH"
)
_UPSTREAMS: Final = frozenset({"upstream_api_key"})
_SUFFIX: Final = "_env"  # of keys whose value names a variable with a secret
_CONSOLE: Final = frozenset({"admin_token", "metrics_token"})
# With it Python's hashes of texts would be no secret: two with the same one could be chosen (`RememberedCounts`).
_HASH_SEED: Final = "PYTHONHASHSEED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environments:
    """The environment of each child. console: the process behind the console's port, whatever the role."""

    worker: Mapping[str, str]
    console: Mapping[str, str]
    valkey: Mapping[str, str]


def environments(role: Role, settings: Settings, environ: Mapping[str, str]) -> Environments:
    """Make the environments. environ: everything that the role was given, flags included."""
    of_workers = secret_variables(settings.config_dir, "upstreams.yaml") | secret_variables(
        settings.config_dir, "authentication.yaml"
    )
    of_webhooks = secret_variables(settings.config_dir, "webhooks.yaml")
    of_sign_in = secret_variables(settings.config_dir, "sign_in.yaml")
    here = (of_webhooks if role.keeps_ledger else frozenset()) | (of_sign_in if role.has_api else frozenset())
    return Environments(
        worker=_without(environ, settings=_CONSOLE, named=(of_webhooks | of_sign_in) - of_workers | {_HASH_SEED}),
        console=_without(environ, settings=_UPSTREAMS, named=(of_workers | of_webhooks | of_sign_in) - here),
        valkey={name: value for name, value in environ.items() if _PLAIN.fullmatch(name)},
    )


def _without(environ: Mapping[str, str], *, settings: frozenset[str], named: frozenset[str]) -> dict[str, str]:
    """The environment without these. settings: fields, given in a variable or in a file that one names; named: variables."""
    dropped = {variable_name(field) for field in settings} | {f"{variable_name(field)}_FILE" for field in settings} | named
    return {name: value for name, value in environ.items() if name not in dropped}


def secret_variables(directory: Path | None, file: str) -> frozenset[str]:
    """The variables that a file names as secrets (`secret_env: NAME`); none of them is read.

    None where there is no such file or it is no YAML: loading it reports that.
    """
    if directory is None:
        return frozenset()
    try:
        with (directory / file).open("rb") as opened:
            root = yaml.compose(opened.read(FILE_BYTES_MAX), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
        return frozenset()
    return frozenset(_named(root))


def _named(root: yaml.Node | None) -> Iterator[str]:
    waiting, seen = [root], set[int]()
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:  # aliases share nodes
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if isinstance(value, yaml.ScalarNode) and str(key.value).endswith(_SUFFIX):
                    yield str(value.value)
                waiting.append(value)
