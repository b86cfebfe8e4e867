"""Proxies and authorities for all outgoing HTTP: upstreams, their tokens and catalogues, issuers' keys, webhooks."""

import base64
import ipaddress
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from tallygate.domain.errors import ConfigError

CA_BYTES_MAX: Final = 2**20
_OWN_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyServer:
    """An HTTP proxy. authorization: value of Proxy-Authorization, "" for none."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WayOut:
    """The proxies and authorities of everything that goes out.

    by_scheme   the proxy for https:// and for http:// addresses; exempt: NO_PROXY
    ca_pem      certificates trusted beside the system's authorities
    """

    by_scheme: Mapping[str, ProxyServer] = field(default_factory=dict)
    exempt: str = ""
    ca_pem: str = field(default="", repr=False)

    def proxy_for(self, url: str) -> ProxyServer | None:
        """The proxy for an absolute URL; None if there is none, or NO_PROXY names the host."""
        parts = urlsplit(url)
        found = self.by_scheme.get(parts.scheme)
        if found is None:
            return None
        return None if _is_exempt(parts.hostname or "", parts.port or _OWN_PORTS[parts.scheme], self.exempt) else found


def way_out(environ: Mapping[str, str], *, ca_file: Path | None = None) -> WayOut:
    """Read HTTPS_PROXY, HTTP_PROXY, their fallback ALL_PROXY, and NO_PROXY; lower case takes precedence, as with curl.

    Raises ConfigError, which never quotes an address, since it may hold a password.
    """
    by_scheme, problems = {}, []
    for scheme in ("https", "http"):
        for name in (f"{scheme}_proxy", "all_proxy"):
            shown = name if environ.get(name) else name.upper()
            if text := environ.get(shown, "").strip():
                try:
                    by_scheme[scheme] = _proxy_server(text)
                except ValueError as error:
                    problems.append(f"{shown} {error}")
                break
    ca_pem = ""
    if ca_file is not None:
        try:
            ca_pem = read_authorities(ca_file)
        except ValueError as error:
            problems.append(f"TALLYGATE_UPSTREAM_CA_FILE {error}")
    if problems:
        raise ConfigError(tuple(dict.fromkeys(problems)))
    return WayOut(by_scheme=by_scheme, exempt=environ.get("no_proxy") or environ.get("NO_PROXY", ""), ca_pem=ca_pem)


def read_authorities(path: Path) -> str:
    """Read certificates in PEM. Raises ValueError, which names the file."""
    try:
        with path.open("rb") as file:
            pem = file.read(CA_BYTES_MAX).decode("ascii")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=pem)
    except OSError as error:  # ssl.SSLError is one too
        raise ValueError(f"names the file {str(path)!r}, which holds no certificates: {error.strerror or error}") from None
    except ValueError:
        raise ValueError(f"names the file {str(path)!r}, which holds no certificates in PEM") from None
    return pem


def tls_context(ca_pem: str) -> ssl.SSLContext:
    """A context that verifies certificate and host name with the system's authorities (SSL_CERT_FILE, SSL_CERT_DIR) and these."""
    context = ssl.create_default_context()
    if ca_pem:
        context.load_verify_locations(cadata=ca_pem)
    return context


def _proxy_server(text: str) -> ProxyServer:
    wrong = (
        "must be the address of an HTTP proxy, such as http://proxy.internal:3128, with a user and password before the host "
        "if it asks for one; proxies that are spoken to by TLS or SOCKS cannot be used"
    )
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError:
        raise ValueError(wrong) from None
    if parts.scheme != "http" or not parts.hostname or port == 0 or not text.isascii() or not text.isprintable():
        raise ValueError(wrong)
    if parts.username is None:
        return ProxyServer(host=parts.hostname, port=port or 80)
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return ProxyServer(host=parts.hostname, port=port or 80, authorization=f"Basic {base64.b64encode(login).decode()}")


def _is_exempt(host: str, port: int, exempt: str) -> bool:
    """Return whether NO_PROXY exempts the host. As in curl, it lists names and their subdomains, with a port or without, `*`,
    addresses and networks (10.0.0.0/8).

    Loopback is always exempt, as in Go (net/http, ProxyFromEnvironment): for the proxy it is another machine.
    """
    host = host.removesuffix(".")
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761 section 6.3
        return True
    given = exempt.replace(",", " ").split()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        names = [entry if entry == "*" else entry.removeprefix("*.").removesuffix(".") for entry in given]
        return bool(urllib.request.proxy_bypass_environment(f"{host}:{port}", {"no": ",".join(names)}))  # type: ignore[attr-defined]
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback or "*" in given or (f"[{host}]:{port}" if ":" in host else f"{host}:{port}") in given:
        return True
    return any(_is_within(address, entry.strip("[]")) for entry in given)


def _is_within(address: ipaddress.IPv4Address | ipaddress.IPv6Address, entry: str) -> bool:
    try:
        return address in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
