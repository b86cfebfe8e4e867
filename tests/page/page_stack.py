"""`tallygate serve` with a simulator behind it and some traffic in its ledger, for a browser: served from a thread of its own."""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import ClientSession
from msgspec.structs import replace
from stack import AMPLE_PLANS, Stack, eventually, running_stack

from tallygate.ledger.book import Book
from tallygate.ledger.history import EntriesQuery, OrgScope
from tallygate.ledger.opening import open_database
from tallygate.ledger.usage_queries import UsageQueries

ADMIN_TOKEN = "tga_" + "a" * 40
CHAT = "/v1/chat/completions"
KEYS = {"acme-web": "websecret", "acme-batch": "batchsecret", "globex-app": "globexsecret", "scout-app": "scoutsecret"}
NAMES = {"acme-web": "Website", "acme-batch": "Nightly batch", "globex-app": "Support desk", "scout-app": "Camp"}


def plans() -> dict[str, Any]:
    """Ample ones that differ in what can be taken away."""
    ample = AMPLE_PLANS["plans"]
    own = {
        "pay_as_you_go": ample["pay_as_you_go"] | {"billing": "weekly"},
        "enterprise": {"export": True, "billing": "monthly"},
        "by_month": {"spend_limit": {"usd": "10", "window": "month", "warn_at": [0.5]}},
    }
    return {"plans": ample | own}


def organizations() -> dict[str, Any]:
    plans = {"acme": "pay_as_you_go", "globex": "enterprise", "scout": "free"}
    zones = {"acme": "America/New_York", "globex": "Europe/Berlin"}
    found = []
    for org, plan in plans.items():
        credentials = [
            {"id": id_, "name": NAMES[id_], "key_sha256": hashlib.sha256(secret.encode()).hexdigest()}
            for id_, secret in KEYS.items()
            if id_.startswith(org)
        ]
        shown: dict[str, Any] = {"id": org, "name": f"{org.title()} Ltd", "plan": plan, "credentials": credentials}
        found.append(shown | ({"time_zone": zones[org]} if org in zones else {}))
    return {"organizations": found}


@dataclass(kw_only=True)
class PageStack:
    """url: of the console. answers: status of each request of a known key, in order."""

    stack: Stack
    loop: asyncio.AbstractEventLoop
    answers: list[int] = field(default_factory=list)

    @property
    def token(self) -> str:
        return ADMIN_TOKEN

    @property
    def url(self) -> str:
        return self.stack.console

    def api(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """What the console's API answers to the platform's token, as JSON."""
        address = f"{self.url}{path}?{urllib.parse.urlencode(query, doseq=True)}"
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(address, method=method, data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read() or b"null")

    def login_link(self) -> str:
        """An address that signs in once, from the command line."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("TALLYGATE_")}
        command = [sys.executable, "-m", "tallygate", "login", "--json"]
        directory = {"TALLYGATE_DATA_DIR": str(self.stack.data_dir)}
        made = subprocess.run(command, env=own | directory, capture_output=True, text=True, check=True)
        return str(json.loads(made.stdout)["url"])

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    async def ask(self, api_key: str, body: Any, path: str = CHAT, request_id: str = "") -> int:
        """The status of one request to the gateway. request_id: the client's own."""
        headers = {"Authorization": f"Bearer {api_key}"} | ({"x-request-id": request_id} if request_id else {})
        async with (
            ClientSession() as session,
            session.request("GET" if body is None else "POST", self.stack.url + path, json=body, headers=headers) as answer,
        ):
            await answer.read()
            if answer.status != 401:  # of nobody's: counted, and in no organization's usage
                self.answers.append(answer.status)
            return answer.status

    async def send_traffic(self) -> None:
        """Requests of each kind that the page tells apart, until the ledger has them."""
        for credential, body, path in traffic():
            await self.ask(f"tg_{credential}_{KEYS[credential]}", body, path)
        await self.caught_up()

    async def caught_up(self) -> None:
        """Return when the ledger has every request that was made so far, by whichever test."""

        def has_all() -> bool:
            totals = self.api("GET", "/api/usage", bucket="total")["totals"]
            return bool(totals["requests"] + totals["refused"] == len(self.answers))

        await eventually(has_all, "the ledger has all requests")

    async def keep_history_of(self, org: str) -> int:
        """Give an organization that is not configured the history of acme, as if it had left. Returns how many requests it has."""
        database = open_database("", self.stack.data_dir)
        queries = UsageQueries(database)
        page = await queries.entries_page(EntriesQuery(scopes=(OrgScope(org="acme"),), from_ms=0, to_ms=2**53, limit=1_000))
        copies = [
            replace(entry, org=org, event_id=f"{entry.event_id[:-4]}{number:04x}") for number, entry in enumerate(page.entries)
        ]
        await Book(database).record(copies)
        await database.close()
        return sum(copy.requests for copy in copies)


def chat(model: str, directive: str) -> dict[str, Any]:
    return {
        "model": model,
        "max_tokens": 500,
        "messages": [{"role": "user", "content": f"[[sim {directive}]] Please say something"}],
    }


def traffic() -> Iterator[tuple[str, Any, str]]:
    for number in range(4):
        yield "acme-web", chat("gpt-4o-mini", f"tokens={20 + number}"), CHAT
        yield "acme-batch", chat("gpt-4o", f"tokens={90 + number}"), CHAT
        yield "globex-app", chat("gpt-4o", f"tokens={40 + number}"), CHAT
    yield "acme-web", {"model": "text-embedding-3-small", "input": "some words to embed"}, "/v1/embeddings"
    yield "acme-web", None, "/v1/models"
    yield "acme-web", chat("gpt-4o-mini", "fault=status:503"), CHAT
    yield "acme-batch", chat("gpt-4o-mini", "fault=status:400"), CHAT
    for _ in range(3):
        yield "scout-app", chat("gpt-4o-mini", "tokens=5"), CHAT  # a plan without API access: refused


@contextmanager
def running_page_stack(directory: Path) -> Iterator[PageStack]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(90)

    config = {"plans": plans(), "organizations": organizations()}
    whole = running_stack(directory, config=config, admin_token=ADMIN_TOKEN, workers="1")
    try:
        started = PageStack(stack=run(whole.__aenter__()), loop=loop)
        try:
            run(started.send_traffic())
            yield started
        finally:
            run(whole.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
