"""`tallygate ledger compare`: what the ledger lacks of what the limiter's store has handed over."""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from tallygate.commands.answers import Column, json_option, show_rows
from tallygate.commands.ledger_session import open_session, plain_errors
from tallygate.commands.output_console import output_console
from tallygate.commands.settings_options import store_options
from tallygate.domain.money import usd_text

if TYPE_CHECKING:
    from tallygate.ledger.continuity import Lack

_COLUMNS: Final = (Column("org", "Organization"), Column("lacks_usd", "Lacks USD", is_amount=True))


@click.command(short_help="State what an older ledger lacks; exit code 1 if it lacks something.")
@click.option("--accept-loss", is_flag=True, help="Hold the ledger to be complete: limits count what it has from now on.")
@json_option
@store_options
def compare(*, accept_loss: bool, as_json: bool, **flags: Path | str | None) -> None:
    """Compare the ledger with the limiter's store, which keeps how far its events were taken.

    A ledger that was put back from an older state lacks events, and perhaps spend that limits count. They are not lowered to it
    before somebody has decided: with --accept-loss closed limits open at once with what the ledger has. The store must run.
    """

    async def look() -> "Lack":
        from tallygate.app.ledger_state import ledger_lack

        async with open_session(flags, writes=accept_loss) as session:
            if not session.settings.redis_url.get_secret_value():
                raise click.ClickException("no store runs: start serve, or give --redis-url")
            organizations = tuple(session.organizations.values())
            return await ledger_lack(session.settings, session.database, organizations, accepts=accept_loss)

    with plain_errors():
        lack = asyncio.run(look())
    _show(lack, as_json=as_json, is_accepted=accept_loss)
    sys.exit(1 if lack.gaps and not accept_loss else 0)


def _show(lack: "Lack", *, as_json: bool, is_accepted: bool) -> None:
    rows = [{"org": org, "lacks_usd": usd_text(nano_usd)} for org, nano_usd in lack.nano_usd.items()]
    whole = {
        "gaps": [{"partition": gap.partition, "from_ms": gap.from_ms, "until_ms": gap.until_ms} for gap in lack.gaps],
        "organizations": rows,
        "accepted": is_accepted,
    }
    if as_json or rows:
        show_rows(rows, _COLUMNS, as_json=as_json, as_csv=False, empty="", whole=whole)
    if as_json:
        return
    console = output_console()
    if not lack.gaps:
        console.print("[green]nothing is lacking[/]: the ledger has every event that the store handed over")
        return
    since = "an unknown time" if lack.from_ms < 0 else "the beginning" if not lack.from_ms else _time(lack.from_ms)
    console.print(
        f"[red]the ledger lacks events[/] from {since} to {_time(lack.until_ms)}, and {usd_text(lack.total_nano_usd)} USD "
        f"of what the limits of {len(rows)} organization{'' if len(rows) == 1 else 's'} count"
    )
    console.print(
        "accepted: limits count what the ledger has" if is_accepted else "put the newer ledger back, or give --accept-loss"
    )


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
