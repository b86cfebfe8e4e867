"""Loading of a configuration directory as a whole: either every file is valid, or every problem is reported."""

import hashlib
import os
import re
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from tallygate.config.authentication import Authentication, read_authentication
from tallygate.config.catalogue import PriceCatalogue
from tallygate.config.document import FILE_BYTES_MAX, read_document
from tallygate.config.model import GatewayConfig
from tallygate.config.organizations import read_organizations
from tallygate.config.plans import StatedPlan, read_plans
from tallygate.config.price_updates import UPDATES_FILE, with_updates
from tallygate.config.prices import read_prices
from tallygate.config.problems import Problems, nearest
from tallygate.config.routes import capabilities_of, read_routes, report_unknown_upstreams
from tallygate.config.section import Section, show
from tallygate.config.shipped import alone, placed_in, shipped_tables
from tallygate.config.sign_in import read_sign_in
from tallygate.config.upstreams import read_upstreams
from tallygate.config.webhook_endpoint import WebhookEndpoint
from tallygate.config.webhooks import read_webhooks
from tallygate.domain.dialect_traits import DialectTraits
from tallygate.domain.errors import ConfigError
from tallygate.domain.organization import Organization
from tallygate.outbound.way_out import WayOut

REQUIRED_FILES: Final = ("plans.yaml", "routes.yaml", "upstreams.yaml", "prices.yaml")
ORGANIZATIONS_FILE: Final = "organizations.yaml"
AUTHENTICATION_FILE: Final = "authentication.yaml"
WEBHOOKS_FILE: Final = "webhooks.yaml"
SIGN_IN_FILE: Final = "sign_in.yaml"
CONFIG_FILES: Final = (*REQUIRED_FILES, ORGANIZATIONS_FILE, AUTHENTICATION_FILE, WEBHOOKS_FILE, SIGN_IN_FILE, UPDATES_FILE)
_DIRECT: Final = WayOut()
_MISSPELT_LIKENESS: Final = 0.85  # of names without the suffix
_SHORT_NAME: Final = re.compile(r"(org|auth|upstr|hook)[a-z]*")  # orgs.yaml, auth.yml
_SHORT_FOR: Final = {"org": ORGANIZATIONS_FILE, "auth": AUTHENTICATION_FILE, "upstr": "upstreams.yaml", "hook": WEBHOOKS_FILE}


def misspelt_files(directory: Path) -> tuple[str, ...]:
    """Files that are not read although their names resemble those of files that would be, a line each.

    Such are plan.yml, orgs.yaml and organisations.yaml, but not organizations.example.yaml and plans-old.yaml. Only a note, since a
    directory may have other files beside the configuration.
    """
    try:
        found = {path.name for path in directory.iterdir()}
    except OSError:  # loading it reports that
        return ()
    return tuple(
        f"{name} is not read, " + (f"only {meant!r} beside it is" if meant in found else f"did you mean {meant!r}?")
        for name in sorted(found - set(CONFIG_FILES))
        if (meant := _meant_file(name))
    )


def _meant_file(name: str) -> str | None:
    """The file that a misspelt name means; None for names that mean something else."""
    stem, _, suffix = name.lower().rpartition(".")
    if suffix not in {"yaml", "yml"}:
        return None
    by_stem = {file.removesuffix(".yaml"): file for file in CONFIG_FILES}
    if stem in by_stem:
        return by_stem[stem]
    short = _SHORT_NAME.fullmatch(stem)
    close = get_close_matches(stem, by_stem, n=1, cutoff=_MISSPELT_LIKENESS)
    return by_stem[close[0]] if close else _SHORT_FOR[short[1]] if short else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigSource:
    """The source of a configuration, so that it can be read again.

    directory         the operator's files; None: only the shipped ones
    shipped_dir       stands in for each required file that `directory` does not have; the optional ones are never taken from it
    known_dialects    names that routes may use, each with what decides which routes may
    default_url,      of the upstream called `default`, if upstreams.yaml names none
    default_api_key
    environ           variables that upstreams.yaml, authentication.yaml, webhooks.yaml and sign_in.yaml may name
    forwards          whether this process forwards requests: only then are secrets and the URL of upstreams read and required
    way               the proxies and authorities of this process
    sends_webhooks    whether this process signs webhooks: only then are their secrets read and required
    signs_in          whether people sign in at this process: only then is the secret of sign_in.yaml read and required
    """

    directory: Path | None
    shipped_dir: Path
    known_dialects: Mapping[str, DialectTraits]
    default_url: str = ""
    default_api_key: str = ""
    environ: Mapping[str, str]
    forwards: bool = True
    sends_webhooks: bool = True
    signs_in: bool = True
    way: WayOut = _DIRECT

    def load(self) -> GatewayConfig:
        return load_config(
            self.directory,
            shipped_dir=self.shipped_dir,
            known_dialects=self.known_dialects,
            default_url=self.default_url,
            default_api_key=self.default_api_key,
            environ=self.environ,
            forwards=self.forwards,
            sends_webhooks=self.sends_webhooks,
            signs_in=self.signs_in,
            way=self.way,
        )

    def problems(self) -> tuple[str, ...]:
        """Every problem, each as "file:line: what, and the fix"; empty if the configuration can be used. Changes nothing."""
        try:
            self.load()
        except ConfigError as error:
            return error.problems
        return ()


@dataclass(slots=True)
class _Digests:
    """Digests of the files that were read: of all together, and of each that is in the operator's directory."""

    directory: Path | None
    whole: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    own: dict[str, str] = field(default_factory=dict)

    def note(self, name: str, path: Path, text: bytes) -> None:
        self.whole.update(f"{name}:{len(text)}:".encode() + text)
        if path.parent == self.directory:
            self.own[name] = hashlib.sha256(text).hexdigest()


def load_config(
    directory: Path | None,
    *,
    shipped_dir: Path,
    known_dialects: Mapping[str, DialectTraits],
    environ: Mapping[str, str],
    default_url: str = "",
    default_api_key: str = "",
    forwards: bool = True,
    sends_webhooks: bool = True,
    signs_in: bool = True,
    way: WayOut = _DIRECT,
) -> GatewayConfig:
    """Load the configuration of a directory; see ConfigSource. Raises ConfigError with every problem of every file."""
    problems = Problems()
    digests = _Digests(directory)
    paths = {name: _find(name, directory, shipped_dir) for name in REQUIRED_FILES}
    texts = {name: _text(name, path, digests, problems) for name, path in paths.items()}
    shipped = shipped_tables(shipped_dir, known_dialects)
    routes = shipped.routes if paths["routes.yaml"].parent == shipped_dir else None
    prices = shipped.prices if paths["prices.yaml"].parent == shipped_dir else None
    ready = {name for name, table in (("routes.yaml", routes), ("prices.yaml", prices)) if table is not None}
    documents = {
        name: document
        for name, text in texts.items()
        if name not in ready and text is not None and (document := read_document(name, text, problems)) is not None
    }
    if directory is not None and not directory.is_dir():
        problems.add(str(directory), 1, "is not a directory")
    organizations_document = _optional(ORGANIZATIONS_FILE, directory, digests, problems)
    authentication_document = _optional(AUTHENTICATION_FILE, directory, digests, problems)
    webhooks_document = _optional(WEBHOOKS_FILE, directory, digests, problems)
    sign_in_document = _optional(SIGN_IN_FILE, directory, digests, problems)
    updates_document = _optional(UPDATES_FILE, directory, digests, problems)

    if documents.keys() | ready != texts.keys():
        raise ConfigError(problems.texts())  # further problems would only follow from the file that cannot be read
    if routes is None:
        placed_routes = read_routes(documents["routes.yaml"], known_dialects=known_dialects, shipped=shipped.routes or ())
    else:
        placed_routes = placed_in(problems, routes)
    # Grants and limits may also name shipped capabilities that an operator's fewer routes lack: nobody can use them.
    capabilities = capabilities_of(placed_routes) | capabilities_of(shipped.routes or ())
    plans = read_plans(documents["plans.yaml"], capabilities=capabilities)
    upstreams = read_upstreams(
        documents["upstreams.yaml"],
        environ=environ if forwards else None,
        default_url=default_url,
        default_api_key=default_api_key,
        way=way,
    )
    listed = shipped.list_prices or PriceCatalogue(())
    if updates_document is not None:
        listed = with_updates(listed, updates_document)
    if prices is None:
        prices = read_prices(documents["prices.yaml"], listed=listed)
    elif updates_document is not None:
        prices = alone(listed)
    report_unknown_upstreams(placed_routes, upstreams)
    _report_dangling(plans, capabilities, prices)
    has_catalogue = any(upstream.catalogue_path for upstream in upstreams.values())
    if "prices.yaml" in documents and not has_catalogue:  # else the models are known only once the catalogue is fetched
        _report_unreached(documents["prices.yaml"], prices)
    authentication = Authentication()
    if authentication_document is not None:
        authentication = read_authentication(authentication_document, environ=environ if forwards else None)
    webhooks: tuple[WebhookEndpoint, ...] = ()
    if webhooks_document is not None:
        webhooks = read_webhooks(webhooks_document, environ=environ, reads_secrets=sends_webhooks)
    openid = None if sign_in_document is None else read_sign_in(sign_in_document, environ=environ if signs_in else None)
    organizations: tuple[Organization, ...] = ()
    if organizations_document is not None:
        organizations = read_organizations(
            organizations_document, plans=plans, capabilities=capabilities, needs_keys=authentication == Authentication()
        )
    if problems:
        raise ConfigError(problems.texts())
    return GatewayConfig(
        plans={name: stated.plan for name, stated in plans.items()},
        routes=tuple(placed.route for placed in placed_routes),
        upstreams=upstreams,
        prices=prices,
        organizations=organizations,
        version=digests.whole.hexdigest()[:12],
        files=digests.own,
        stated_plans=plans,
        jwt_issuers=authentication.jwt_issuers,
        key_lookup=authentication.key_lookup,
        webhooks=webhooks,
        openid=openid,
    )


def _report_unreached(document: Section, prices: PriceCatalogue) -> None:
    known = [*prices.routing.families, *prices.models()]
    for entry in prices.routing.unmatched(prices.reachable_names()):
        document.place_of("auto_routing").problem(
            f"reaches {show(entry)}, which is no family and no priced model{nearest(entry, known)}"
        )


def _find(name: str, directory: Path | None, shipped_dir: Path) -> Path:
    own = None if directory is None else directory / name
    return own if own is not None and own.exists() else shipped_dir / name


def _optional(name: str, directory: Path | None, digests: _Digests, problems: Problems) -> Section | None:
    """Read a file that the shipped set lacks."""
    path = None if directory is None else directory / name
    return None if path is None or not path.exists() else _document(name, path, digests, problems)


def _document(name: str, path: Path, digests: _Digests, problems: Problems) -> Section | None:
    text = _text(name, path, digests, problems)
    return None if text is None else read_document(name, text, problems)


def _text(name: str, path: Path, digests: _Digests, problems: Problems) -> bytes | None:
    try:
        with open(path, "rb", opener=_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                problems.add(name, 1, f"cannot be read from {path.parent}: it is no regular file")
                return None
            text = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        problems.add(name, 1, f"cannot be read from {path.parent}: {error.strerror}")
        return None
    digests.note(name, path, text)
    return text


def _at_once(path: str, flags: int) -> int:
    """Open without waiting for who would write into a pipe of this name: later reloads would wait with it."""
    return os.open(path, flags | os.O_NONBLOCK)


def _report_dangling(plans: Mapping[str, StatedPlan], capabilities: Collection[str], prices: PriceCatalogue) -> None:
    """Report what plans name in other files and is not there."""
    for stated in plans.values():
        model = stated.plan.unknown_model.text
        if model and model not in prices:
            stated.place.problem(f"unknown_model.price_as names {show(model)}, which has no price")
        for limit in stated.plan.rate_limits:
            if limit.capability is not None and limit.capability not in capabilities:
                hint = nearest(limit.capability, capabilities)
                stated.place.problem(f"rate_limits: {show(limit.capability)} is not a capability of any route{hint}")
