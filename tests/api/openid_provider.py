"""An OpenID provider on the loopback: real keys, real codes that are good once, and answers that tests spoil."""

import base64
import functools
import hashlib
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import jwt
from aiohttp import web
from aiohttp.test_utils import TestServer
from api_values import NOW_MS
from cryptography.hazmat.primitives.asymmetric import rsa

from tallygate.config.sign_in import OpenIdProvider

CLIENT_ID, CLIENT_SECRET = "console at work", "s3cret: 100%"
NOW = NOW_MS // 1000


@functools.cache
def private_key(_kid: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_jwk(kid: str) -> dict[str, Any]:
    return {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(private_key(kid).public_key())), "kid": kid, "use": "sig"}


@dataclass
class Provider:
    """claims: of the next ID token, beside the usual ones; None leaves one out. described: overrides of its configuration.

    signed  makes the token of its claims; asked: the last authorization request; codes: what was asked with each
    """

    url: str = ""
    keys: list[str] = field(default_factory=lambda: ["k1"])
    claims: dict[str, Any] = field(default_factory=lambda: {"sub": "u1", "email": "ada@acme.example", "groups": ["acme-finance"]})
    described: dict[str, Any] = field(default_factory=dict)
    signed: Any = None
    asked: dict[str, str] = field(default_factory=dict)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    fetches: list[str] = field(default_factory=list)
    is_down: bool = False
    token_answer: Any = None

    def config(self, **changed: Any) -> OpenIdProvider:
        plain: dict[str, Any] = {
            "name": "Acme SSO",
            "issuer": self.url,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "organizations_claim": "groups",
            "organizations": {"acme-finance": ("acme",), "both": ("acme", "globex"), "ghosts": ("gone",)},
            "all_organizations": frozenset({"staff"}),
            "access_claim": "roles",
            "write": frozenset({"admin"}),
        }
        return OpenIdProvider(**plain | changed)

    def authorize(self, location: str) -> str:
        """Log somebody in who was sent here; return where their browser is sent."""
        parts = urlsplit(location)
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{self.url}/authorize"
        self.asked = {name: value for name, (value,) in parse_qs(parts.query).items()}
        code = secrets.token_hex(8)
        self.codes[code] = self.asked
        return f"{self.asked['redirect_uri']}?{urlencode({'code': code, 'state': self.asked['state'], 'session_state': 'x'})}"

    async def discovery(self, request: web.Request) -> web.Response:
        self.fetches.append(request.path)
        if self.is_down:
            return web.Response(status=503)
        document = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
        }
        return web.json_response(document | self.described)

    async def jwks(self, request: web.Request) -> web.Response:
        self.fetches.append(request.path)
        return web.json_response({"keys": [public_jwk(kid) for kid in self.keys]})

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if self.token_answer is not None:
            return self.token_answer()
        asked = self.codes.pop(str(form.get("code")), None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(str(form.get("code_verifier")).encode()).digest()).rstrip(b"=").decode()
        if asked is None or asked["code_challenge"] != challenge or asked["redirect_uri"] != form.get("redirect_uri"):
            return web.json_response({"error": "invalid_grant"}, status=400)
        if "Authorization" in request.headers:
            login, _, password = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode().partition(":")
            client = unquote(login), unquote(password)
        else:
            client = str(form.get("client_id")), str(form.get("client_secret"))
        if client != (CLIENT_ID, CLIENT_SECRET):
            return web.json_response({"error": "invalid_client"}, status=401)
        return web.json_response({"access_token": "at", "token_type": "Bearer", "id_token": self.id_token(asked["nonce"])})

    def id_token(self, nonce: str) -> str:
        plain = {"iss": self.url, "aud": CLIENT_ID, "iat": NOW, "exp": NOW + 300, "nonce": nonce}
        claims = {name: value for name, value in (plain | self.claims).items() if value is not None}
        if self.signed is not None:
            return str(self.signed(claims))
        return jwt.encode(claims, private_key("k1"), algorithm="RS256", headers={"kid": "k1"})


@asynccontextmanager
async def running_provider() -> AsyncIterator[Provider]:
    provider, app = Provider(), web.Application()
    app.router.add_get("/.well-known/openid-configuration", provider.discovery)
    app.router.add_get("/keys", provider.jwks)
    app.router.add_post("/token", provider.token)
    async with TestServer(app) as server:
        provider.url = str(server.make_url("")).rstrip("/")
        yield provider
