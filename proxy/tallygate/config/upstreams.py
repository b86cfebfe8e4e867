"""upstreams.yaml: the servers that requests are forwarded to. It names secrets (a variable or a file) but never contains them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tallygate.config.cache_ratios import read_cache_ratios
from tallygate.config.declared import read_declared, read_field
from tallygate.config.kinds import Parsed, declare
from tallygate.config.model import UPSTREAM_FIELDS, AuthKind, Upstream, UpstreamAuth
from tallygate.config.secret_file import CHARS_OF_A_PATH_MAX, read_secret
from tallygate.config.section import Section
from tallygate.config.urls import HTTP_URL, http_url
from tallygate.domain.declared import Choice, Text
from tallygate.outbound.way_out import WayOut, read_authorities

DEFAULT_UPSTREAM: Final = "default"
_HEADERS: Final = ("auto", "authorization", "x-api-key", "x-goog-api-key", "api-key")
BASE_URL: Final = declare(
    "base_url",
    Parsed(
        "Scheme, host, optional port and path prefix; a route's path is appended.",
        parse=http_url,
        pattern=HTTP_URL,
        example="https://api.example.com",
    ),
)
AUTHORITIES: Final = declare(
    "ca_file", Text("A file of PEM certificates that are trusted beside the system's.", CHARS_OF_A_PATH_MAX)
)
AUTH_KIND: Final = declare(
    "kind",
    Choice(
        "`passthrough` forwards the client's own key, unless tallygate issued it; `bearer` sends a secret of yours; "
        "`oauth2_client_credentials` fetches a token.",
        words={kind.value: kind for kind in AuthKind},
    ),
    AuthKind.PASSTHROUGH,
    is_required=True,
)
AUTH_HEADER: Final = declare(
    "header",
    Choice("The header that the secret is sent in; `auto`: that of the route's dialect.", words={name: name for name in _HEADERS}),
    "auto",
)
TOKEN_URL: Final = Parsed(
    "Where a token is fetched.", parse=http_url, pattern=HTTP_URL, example="https://login.example.com/oauth2/token"
)
OAUTH_FIELDS: Final = (declare("token_url", TOKEN_URL, is_required=True), declare("scope", Text("The scope that is asked for.")))
CLIENT_ID: Final = declare("client_id", Text("The client's id; or client_id_env, or client_id_file."))


def read_upstreams(
    document: Section, *, environ: Mapping[str, str] | None, default_url: str, default_api_key: str, way: WayOut
) -> Mapping[str, Upstream]:
    """Parse upstreams by name. `default` gets its URL and key from the process settings if the file has none.

    environ   None in processes that forward nothing: secrets are then not read, and neither they nor a URL are required
    """
    found = {}
    document.require("upstreams")
    for name, section in document.named_sections("upstreams"):
        is_default = name == DEFAULT_UPSTREAM
        base_url = read_field(section, BASE_URL) or (default_url if is_default else "")
        if not base_url and "base_url" not in section and environ is not None:
            fix = "set TALLYGATE_UPSTREAM_URL or write a base_url" if is_default else "write a base_url"
            section.place.problem(f"has no base_url: {fix}")
        fallback = UpstreamAuth()
        if is_default and default_api_key:
            fallback = UpstreamAuth(kind=AuthKind.BEARER, secret=default_api_key)
        found[name] = _read_upstream(section, name=name, base_url=base_url, fallback=fallback, environ=environ, way=way)
        section.close()
    document.close()
    return found


def _read_upstream(
    section: Section, *, name: str, base_url: str, fallback: UpstreamAuth, environ: Mapping[str, str] | None, way: WayOut
) -> Upstream:
    return Upstream(
        name=name,
        base_url=base_url.rstrip("/"),
        auth=_read_auth(section, environ) or fallback,
        cache_ratios=read_cache_ratios(section),
        **read_declared(section, UPSTREAM_FIELDS),
        ca_pem=way.ca_pem + _read_authorities(section, environ),
        proxy=way.proxy_for(base_url) if base_url else None,
    )


def _read_authorities(section: Section, environ: Mapping[str, str] | None) -> str:
    path = read_field(section, AUTHORITIES)
    if not path or environ is None:
        return ""
    try:
        return "\n" + read_authorities(Path(path))
    except ValueError as error:
        section.place_of("ca_file").problem(str(error))
        return ""


def _read_auth(upstream: Section, environ: Mapping[str, str] | None) -> UpstreamAuth | None:
    section = upstream.section("auth")
    if section is None:
        return None
    kind = read_field(section, AUTH_KIND)
    if kind is AuthKind.PASSTHROUGH:
        section.close()
        return UpstreamAuth()
    header = read_field(section, AUTH_HEADER)
    secret = read_secret(section, "secret", environ)
    if kind is AuthKind.BEARER:
        section.close()
        return UpstreamAuth(kind=kind, header=header, secret=secret)
    auth = UpstreamAuth(
        kind=kind,
        header=header,
        secret=secret,
        client_id=read_field(section, CLIENT_ID) if "client_id" in section else read_secret(section, "client_id", environ),
        **read_declared(section, OAUTH_FIELDS),
    )
    section.close(also=("client_id", "client_id_env", "client_id_file"))
    return auth
