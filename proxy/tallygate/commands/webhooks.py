"""`tallygate webhooks`: the receivers of notices, and their deliveries."""

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console
from rich.markup import escape

from tallygate.commands.answers import Column, form_options, json_option, show, show_rows
from tallygate.commands.directory_session import in_session
from tallygate.commands.ledger_session import plain_errors
from tallygate.commands.settings_options import store_options

if TYPE_CHECKING:
    from tallygate.config.webhook_endpoint import WebhookEndpoint
    from tallygate.ledger.directory.book import DirectoryBook
    from tallygate.ledger.notices.deliveries import Delivery
    from tallygate.webhooks.answer import Answer

_ENDPOINT_COLUMNS: Final = (
    Column("name", "Name"),
    Column("url", "URL"),
    Column("enabled", "Enabled"),
    Column("organizations", "Organizations"),
    Column("events", "Events"),
)
_DELIVERY_COLUMNS: Final = (
    Column("queued_at", "Queued"),
    Column("endpoint", "Endpoint"),
    Column("event_id", "Notice"),
    Column("state", "State"),
    Column("attempts", "Attempts", is_amount=True),
    Column("last_status", "Status"),
    Column("last_error", "Error"),
    Column("next_attempt_at", "Next attempt"),
)


@click.group(
    short_help="Endpoints that spend warnings, pauses, resumes and weekly digests are sent to: list, test, deliveries, retry."
)
def webhooks() -> None:
    """Endpoints of webhooks.yaml, and how notices get to them."""


@webhooks.command("list")
@click.option("--config-dir", type=click.Path(path_type=Path), help="As of serve.")
@form_options
def list_endpoints(*, config_dir: Path | None, as_json: bool, as_csv: bool) -> None:
    """The endpoints that webhooks.yaml names, without their secrets."""
    rows = [
        {
            "name": endpoint.name,
            "url": endpoint.shown_url,
            "enabled": endpoint.is_enabled,
            "organizations": None if endpoint.organizations is None else sorted(endpoint.organizations),
            "events": sorted(endpoint.events),
        }
        for endpoint in _endpoints(config_dir, reads_secrets=False)
    ]
    shown = [row | {"organizations": row["organizations"] or "all", "enabled": "yes" if row["enabled"] else "no"} for row in rows]
    show_rows(shown, _ENDPOINT_COLUMNS, as_json=as_json, as_csv=as_csv, empty="webhooks.yaml names none", whole=rows)


@webhooks.command("test")
@click.argument("name")
@click.option("--config-dir", type=click.Path(path_type=Path), help="As of serve.")
@click.option("--digest", is_flag=True, help="An example of the weekly digest, of an organization named example.")
@json_option
def try_endpoint(name: str, *, config_dir: Path | None, digest: bool, as_json: bool) -> None:
    """Send one message of type webhook.test to the endpoint NAME, and print its answer. Exit code 1 if it is no 2xx.

    It is sent once, also if the endpoint is disabled, and is no delivery: nothing is recorded.
    """
    found = next((endpoint for endpoint in _endpoints(config_dir, reads_secrets=True) if endpoint.name == name), None)
    if found is None:
        raise click.ClickException(f"webhooks.yaml has no endpoint {name}")
    began = time.monotonic()
    answer = asyncio.run(_send_trial(found, is_digest=digest))
    answered = {
        "endpoint": name,
        "delivered": answer.is_delivered,
        "status": answer.status,
        "error": None if answer.is_delivered else answer.error,
        "milliseconds": round((time.monotonic() - began) * 1000),
        "body": answer.body.decode(errors="replace"),
    }

    def plain(console: Console) -> None:
        outcome = f"[green]{answer.status}[/]" if answer.is_delivered else f"[red]{escape(answer.error)}[/]"
        console.print(f"{outcome} after {answered['milliseconds']} ms")
        body = "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in str(answered["body"]))
        if body:
            console.print(escape(body), soft_wrap=True)

    show(answered, as_json=as_json, plain=plain)
    sys.exit(0 if answer.is_delivered else 1)


@webhooks.command("deliveries")
@click.option("--endpoint", help="Only to this endpoint.")
@click.option("--state", type=click.Choice(["waiting", "delivered", "given_up"]), help="Only in this state.")
@click.option("--notice", help="Only of this notice (ntc-...).")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="The newest so many.")
@form_options
@store_options
def list_deliveries(
    *, endpoint: str | None, state: str | None, notice: str | None, limit: int, as_json: bool, as_csv: bool, **options: Any
) -> None:
    """List how far each notice got to each endpoint, newest first."""

    async def work(book: "DirectoryBook") -> list[dict[str, Any]]:
        from tallygate.ledger.notices.deliveries import Deliveries
        from tallygate.ledger.notices.record import DeliveryState

        wanted = None if state is None else DeliveryState(state)
        found = await Deliveries(book.database).latest(most=limit, endpoint=endpoint, state=wanted, event_id=notice)
        return [_shown(delivery) for delivery in found]

    rows = in_session(work, options)
    show_rows(rows, _DELIVERY_COLUMNS, as_json=as_json, as_csv=as_csv, empty="no deliveries")


@webhooks.command("retry")
@click.option("--endpoint", help="Those to this endpoint.")
@click.option("--notice", help="Those of this notice (ntc-...).")
@click.option("--all", "takes_all", is_flag=True, help="All of them.")
@json_option
@store_options
def retry(*, endpoint: str | None, notice: str | None, takes_all: bool, as_json: bool, **options: Any) -> None:
    """Send deliveries that were given up again, from the first attempt on; also to endpoints that had said they were gone."""
    if takes_all == bool(endpoint or notice):
        raise click.UsageError("say --all, or which with --endpoint or --notice")

    async def work(book: "DirectoryBook") -> int:
        from tallygate.app.clocks import now_ms
        from tallygate.ledger.notices.deliveries import Deliveries

        return await Deliveries(book.database).retry(now_ms=now_ms(), endpoint=endpoint, event_id=notice)

    queued = in_session(work, options, writes=True)
    show({"queued": queued}, as_json=as_json, plain=lambda console: console.print(f"{queued} queued again"))


def _endpoints(config_dir: Path | None, *, reads_secrets: bool) -> "tuple[WebhookEndpoint, ...]":
    from tallygate.app.configuration import config_source
    from tallygate.commands.chosen_settings import chosen_settings

    with plain_errors():
        settings = chosen_settings({"config_dir": config_dir}, uses_stores=False)
        return config_source(settings, os.environ, forwards=False, sends_webhooks=reads_secrets).load().webhooks


async def _send_trial(endpoint: "WebhookEndpoint", *, is_digest: bool) -> "Answer":
    import secrets

    from tallygate.app.clocks import now_ms
    from tallygate.app.configuration import process_way_out
    from tallygate.app.product import product_version
    from tallygate.commands.chosen_settings import chosen_settings
    from tallygate.webhooks.message import trial_message
    from tallygate.webhooks.sender import Sender

    with plain_errors():
        way = process_way_out(chosen_settings({}, uses_stores=False), os.environ)
    sender = Sender(now_ms=now_ms, user_agent=f"tallygate/{product_version()}", connections_max=1, way=way)
    try:
        message_id = f"test-{secrets.token_hex(12)}"
        message = trial_message(endpoint.name, message_id=message_id, now_ms=now_ms(), is_digest=is_digest)
        return await sender.send(endpoint, message, reads_body=True)
    finally:
        await sender.close()


def _shown(delivery: "Delivery") -> dict[str, Any]:
    from tallygate.domain.instants import millisecond_text
    from tallygate.ledger.notices.record import DeliveryState

    is_waiting = delivery.state is DeliveryState.WAITING
    return {
        "event_id": delivery.event_id,
        "endpoint": delivery.endpoint,
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "last_status": delivery.last_status,
        "last_error": delivery.last_error,
        "queued_at": millisecond_text(delivery.queued_at_ms),
        "next_attempt_at": millisecond_text(delivery.due_at_ms) if is_waiting else None,
        "ended_at": None if delivery.ended_at_ms is None else millisecond_text(delivery.ended_at_ms),
    }
