"""What is a host, and where a target names one."""

import pytest

from tallygate.http1.hosts import HOST_BYTES_MAX, authority_of, is_host


@pytest.mark.parametrize(
    "value",
    [
        *(
            "localhost",
            "gateway",
            "api.example.com",
            "API.Example.COM",
            "my_service",
            "a-b.c-d",
            "xn--bcher-kva.example",
            "1password.com",
        ),
        *("example.com.", "example.com.:8080", "localhost:8080", "localhost:", "localhost:1", "localhost:65535", "localhost:00080"),
        *("127.0.0.1", "127.0.0.1:8080", "10.0.0.5:", "2130706433"),
        *("[::1]", "[::1]:8080", "[::1]:", "[2001:db8::8a2e:370:7334]", "[::ffff:127.0.0.1]:443", "[FE80::1]"),
        "a" * 63 + ".example",
    ],
)
def test_hosts(value: str) -> None:
    assert is_host(value.encode())


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            " ",
            "a b",
            "a\tb",
            "a/",
            "/a",
            "a/b",
            "a?b",
            "a?",
            "a#b",
            "user@a",
            "user:secret@a",
            "@a",
            "a@",
            "a,b",
            "a, b",
            "a;b",
        ),
        *("http://a", "https://a:80/", "//a", "a\\b", "a%20b", "a%00", "a<b", 'a"b', "a\x00", "a\x7f", "caf\u00e9.example"),
        *(
            ":80",
            ":",
            "a:b",
            "a:80:80",
            "a:-1",
            "a:+1",
            "a:0",
            "a:65536",
            "a:99999999",
            "a:8 0",
            "a: 80",
            "a:80 ",
            "a:80a",
            "a:0x50",
        ),
        *(
            "[",
            "]",
            "[]",
            "[::1",
            "::1]",
            "::1",
            "[::1]80",
            "[::1]a",
            "a[::1]",
            "[[::1]]",
            "[1.2.3.4]",
            "[::g]",
            "[:::]",
            "[a]",
            "[::1]:x",
        ),
        *("[::1%25eth0]", "[::1%eth0]", "[v1.a]", "[::1]:0", "[::1]:70000", "[::1:80", "2001:db8::1"),
        *(".", "..", "a..b", ".a", "a..", "-.-..", "a." * 140, "a" * 64, "*", "*.example", "a~b", "a!b", "a\u0660"),
    ],
)
def test_what_is_no_host(value: str) -> None:
    assert not is_host(value.encode())


def test_a_long_port_is_no_work() -> None:
    assert not is_host(b"a:" + b"0" * HOST_BYTES_MAX)


def test_the_authority_of_a_target() -> None:
    assert authority_of("http://a:80/b?c") == "a:80"
    assert authority_of("http://user@a?x=/y") == "user@a"
    assert authority_of("HTTPS://a") == "a"
    assert authority_of("http:///b") == ""
    assert authority_of("/a?b=http://c") is None
    assert authority_of("*") is None
    assert authority_of("a:443") is None
    assert authority_of("ftp://a") is None
