"""upstreams.yaml: the servers that requests are forwarded to. It names secrets (a variable or a file) but never contains them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tallygate.config.cache_ratios import read_cache_ratios
from tallygate.config.model import AuthKind, OnDisconnect, StatedCostPolicy, Upstream, UpstreamAuth
from tallygate.config.secret_file import read_secret
from tallygate.config.section import Section, show
from tallygate.config.urls import http_url
from tallygate.domain.ratio import percent
from tallygate.outbound.way_out import WayOut, read_authorities

DEFAULT_UPSTREAM: Final = "default"
TIMEOUT_MAX_MS: Final = 3_600_000
TOKENS_PER_SECOND_MAX: Final = 1_000_000
DRAIN_BYTES_MAX: Final = 100_000_000_000
HEADERS: Final = ("auto", "authorization", "x-api-key", "x-goog-api-key", "api-key")


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
        base_url = section.parsed("base_url", http_url) or (default_url if is_default else "")
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
    plain = Upstream(name=name, base_url=base_url)

    def timeout(key: str, default: int) -> int:
        return section.duration_ms(key, default, maximum=TIMEOUT_MAX_MS)

    return Upstream(
        name=name,
        base_url=base_url.rstrip("/"),
        auth=_read_auth(section, environ) or fallback,
        ask_usage=section.boolean("ask_usage", default=plain.ask_usage),
        on_disconnect=OnDisconnect(section.choice("on_disconnect", [policy.value for policy in OnDisconnect], plain.on_disconnect)),
        connect_ms=timeout("connect_timeout", plain.connect_ms),
        first_byte_ms=timeout("first_byte_timeout", plain.first_byte_ms),
        idle_ms=timeout("idle_timeout", plain.idle_ms),
        pool_max=section.integer("pool_max", plain.pool_max, minimum=1, maximum=100_000),
        pool_idle_ms=timeout("pool_idle", plain.pool_idle_ms),
        grace_ms=timeout("grace", plain.grace_ms),
        drain_ms=timeout("drain_timeout", plain.drain_ms),
        drain_max=section.integer("drain_max", plain.drain_max, minimum=1, maximum=100_000),
        drain_org_max=section.integer("drain_org_max", plain.drain_org_max, minimum=1, maximum=100_000),
        drain_bytes=section.integer("drain_bytes", plain.drain_bytes, minimum=1, maximum=DRAIN_BYTES_MAX),
        drain_org_bytes=section.integer("drain_org_bytes", plain.drain_org_bytes, minimum=1, maximum=DRAIN_BYTES_MAX),
        hides_reasoning=section.boolean("hides_reasoning", default=plain.hides_reasoning),
        tokens_per_second_max=section.integer(
            "tokens_per_second_max", plain.tokens_per_second_max, minimum=1, maximum=TOKENS_PER_SECOND_MAX
        ),
        catalogue_path=section.parsed("catalogue_path", _url_path) or "",
        catalogue_ttl_ms=section.duration_ms("catalogue_ttl", plain.catalogue_ttl_ms, minimum=60_000, maximum=7 * 86_400_000),
        cache_ratios=read_cache_ratios(section),
        stated_cost=StatedCostPolicy(
            section.choice("stated_cost", [policy.value for policy in StatedCostPolicy], plain.stated_cost)
        ),
        markup=section.money("markup_percent", percent) or 0,
        ca_pem=way.ca_pem + _read_authorities(section, environ),
        proxy=way.proxy_for(base_url) if base_url else None,
    )


def _read_authorities(section: Section, environ: Mapping[str, str] | None) -> str:
    path = section.text("ca_file", chars_max=4096)
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
    section.require("kind")
    kind = AuthKind(section.choice("kind", [kind.value for kind in AuthKind], AuthKind.PASSTHROUGH))
    if kind is AuthKind.PASSTHROUGH:
        section.close()
        return UpstreamAuth()
    header = section.choice("header", HEADERS, "auto")
    secret = read_secret(section, "secret", environ)
    if kind is AuthKind.BEARER:
        section.close()
        return UpstreamAuth(kind=kind, header=header, secret=secret)
    section.require("token_url")
    auth = UpstreamAuth(
        kind=kind,
        header=header,
        secret=secret,
        token_url=section.parsed("token_url", http_url) or "",
        client_id=section.text("client_id") if "client_id" in section else read_secret(section, "client_id", environ),
        scope=section.text("scope"),
    )
    section.close(also=("client_id", "client_id_env", "client_id_file"))
    return auth


def _url_path(text: str) -> str:
    if not text.startswith("/") or text.startswith("//") or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"must be a path such as /platform/v2/models, got {show(text)}")
    return text
