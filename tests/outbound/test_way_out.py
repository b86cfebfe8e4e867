"""NO_PROXY and authorities, as operators write them."""

from pathlib import Path

import pytest
import trustme

from tallygate.domain.errors import ConfigError
from tallygate.outbound.way_out import way_out


@pytest.mark.parametrize(
    ("url", "exempt", "is_direct"),
    [
        ("https://api.example.com", "", False),
        ("https://api.example.com", "*", True),
        ("http://10.0.0.1", "*", True),
        ("https://api.example.com", "example.com", True),
        ("https://api.example.com", ".example.com", True),
        ("https://api.example.com", "*.example.com", True),
        ("https://API.Example.com", "a.b, Example.COM", True),
        ("https://notexample.com", "example.com", False),
        ("https://example.com", ".example.com", True),
        ("https://api.example.com:8443", "example.com:8443", True),
        ("https://api.example.com", "example.com:8443", False),
        ("https://api.example.com", "example.com:443", True),
        ("http://10.1.2.3:9000", "10.0.0.0/8", True),
        ("http://11.1.2.3", "10.0.0.0/8 192.168.0.0/16", False),
        ("http://10.1.2.3", "10.1.2.3", True),
        ("http://10.1.2.3:81", "10.1.2.3:80", False),
        ("http://10.1.2.3:80", "10.1.2.3:80", True),
        ("http://127.0.0.1:8000", "", True),
        ("https://127.9.9.9", "", True),
        ("http://localhost:8000", "", True),
        ("http://LocalHost", "", True),
        ("http://api.localhost", "", True),
        ("http://notlocalhost", "", False),
        ("http://localhost.example.com", "", False),
        ("http://[::1]:8000", "", True),
        ("http://[::ffff:127.0.0.1]:8000", "", True),
        ("http://[fd00::7]", "", False),
        ("http://[fd00::7]:80", "[fd00::7]:80", True),
        ("http://[fd00::7]:81", "[fd00::7]:80", False),
        ("http://api.example.com.", "example.com", True),
        ("http://api.example.com", "example.com.", True),
        ("http://10.1.2.3", "10.0.0.0/8:80", False),
        ("http://[fd00::7]", "fd00::/8", True),
        ("http://[fd00::7]", "[fd00::7]", True),
        ("https://api.example.com", "10.0.0.0/99,,;", False),
    ],
)
def test_no_proxy_names_hosts_ports_addresses_and_networks(url: str, exempt: str, *, is_direct: bool) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        way = way_out({"ALL_PROXY": "http://proxy:3128", name: exempt})
        assert (way.proxy_for(url) is None) == is_direct


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTPS_PROXY", "https://user:secret@proxy:3128"),
        ("https_proxy", "socks5://user:secret@proxy:1080"),
        ("HTTP_PROXY", "http://"),
        ("HTTP_PROXY", "http://secret:x@proxy:99999"),
        ("ALL_PROXY", "http://pro\nxy"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_refused_by_name_without_its_password(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be the address of an HTTP proxy") as caught:
        way_out({name: value})
    assert "secret" not in str(caught.value)
    assert len(caught.value.problems) == 1


def test_authorities_are_read_or_refused_by_file(tmp_path: Path) -> None:
    good = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(good))
    assert "BEGIN CERTIFICATE" in way_out({}, ca_file=good).ca_pem
    bad = tmp_path / "bad.pem"
    for content in (b"", b"words", b"\xff\xfe", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        bad.write_bytes(content)
        with pytest.raises(ConfigError, match=r"TALLYGATE_UPSTREAM_CA_FILE names the file '.*bad.pem', which holds no cert"):
            way_out({}, ca_file=bad)
    with pytest.raises(ConfigError, match="No such file"):
        way_out({}, ca_file=tmp_path / "none.pem")
