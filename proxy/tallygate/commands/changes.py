"""`tallygate changes`: the log of changes in the directory, with their authors."""

from typing import TYPE_CHECKING, Any

import click

from tallygate.commands.directory_session import directory_options, in_session, show, table

if TYPE_CHECKING:
    from tallygate.ledger.directory.book import DirectoryBook


@click.command(short_help="Who changed which organization, credential or admin token, and when.")
@click.option("--org", help="Only of this organization.")
@click.option("--subject", help="Only of this organization, Client ID or admin token.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1_000), help="The newest so many.")
@directory_options
def changes(*, org: str | None, subject: str | None, limit: int, as_json: bool, **options: Any) -> None:
    """The log of changes, newest first. With --json each comes with what was before and after."""

    async def work(book: "DirectoryBook") -> list[dict[str, Any]]:
        from tallygate.ledger.directory.audit_log import read_audit_log

        orgs = None if org is None else [org]
        return [entry.shown() for entry in await read_audit_log(book.database, orgs=orgs, subject=subject, limit=limit)]

    rows = in_session(work, options)
    columns = {"at": "When", "actor": "Who", "action": "What", "subject": "Of", "organization": "Organization"}
    show(rows, as_json=as_json, plain=lambda console: table(console, columns, rows, empty="nothing was changed yet"))
