"""An authorization server on the loopback: keys that rotate, tokens of every kind, and a clock that tests move."""

import asyncio
import base64
import functools
import json
from dataclasses import dataclass, field
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ISSUER = "https://login.example.com/pool"
NOW = 1_800_000_000  # seconds
NULL = ...  # a claim that is there and is null


def private_key(kid: str, kind: str = "rsa") -> Any:
    return _made_once(kid, kind)


@functools.cache
def _made_once(_kid: str, kind: str) -> Any:
    match kind:
        case "rsa":
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)
        case "small-rsa":
            return rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - to be refused
        case "ec":
            return ec.generate_private_key(ec.SECP256R1())
        case "p384":
            return ec.generate_private_key(ec.SECP384R1())
    return ed25519.Ed25519PrivateKey.generate()


def public_jwk(kid: str, kind: str = "rsa", **more: Any) -> dict[str, Any]:
    key = private_key(kid, kind).public_key()
    algorithm: Any = {
        "rsa": jwt.algorithms.RSAAlgorithm,
        "small-rsa": jwt.algorithms.RSAAlgorithm,
        "ed": jwt.algorithms.OKPAlgorithm,
    }.get(kind, jwt.algorithms.ECAlgorithm)
    return {**json.loads(algorithm.to_jwk(key)), "kid": kid, "use": "sig"} | more


def public_pem(kid: str) -> bytes:
    return private_key(kid).public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def a_token(kid: str = "k1", *, kind: str = "rsa", alg: str = "RS256", headers: dict[str, Any] | None = None, **claims: Any) -> str:
    """As Cognito issues them. A claim given as None is left out, one given as NULL is null."""
    plain = {
        "sub": "acme-prod",
        "client_id": "acme-prod",
        "token_use": "access",
        "scope": "api/access",
        "iss": ISSUER,
        "iat": NOW,
        "exp": NOW + 3600,
    }
    content = {name: None if value is NULL else value for name, value in (plain | claims).items() if value is not None}
    return jwt.encode(content, private_key(kid, kind), algorithm=alg, headers={"kid": kid} | (headers or {}))


def part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


@dataclass
class AuthorizationServer:
    """Publishes `keys`; answers with `failures` first. gate: closed, it keeps its callers waiting."""

    keys: list[dict[str, Any]] = field(default_factory=lambda: [public_jwk("k1")])
    failures: list[web.Response] = field(default_factory=list)
    fetches: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    is_down: bool = False
    url: str = ""

    async def handle(self, _request: web.Request) -> web.Response:
        self.fetches += 1
        await self.gate.wait()
        if self.is_down:
            return web.Response(status=503)
        if self.failures:
            return self.failures.pop(0)
        return web.json_response({"keys": self.keys})


@dataclass
class Clock:
    now_ms: int = NOW * 1000

    def __call__(self) -> int:
        return self.now_ms

    def forward(self, *, seconds: float) -> None:
        self.now_ms += round(seconds * 1000)
