"""All functions of the directory over one database."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tallygate.config.model import GatewayConfig
from tallygate.ledger.database import Database
from tallygate.ledger.directory.admin_tokens import AdminTokens
from tallygate.ledger.directory.changes import Changes
from tallygate.ledger.directory.credential_import import CredentialImport
from tallygate.ledger.directory.credentials import Credentials
from tallygate.ledger.directory.objects import ObjectRegister, Unmark, no_marks
from tallygate.ledger.directory.organizations import Organizations
from tallygate.ledger.directory.rules import Rules
from tallygate.ledger.directory.sign_ins import SignIns


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryBook:
    """The functions of the command line and the admin API. config: the reviewed configuration in force."""

    database: Database
    config: Callable[[], GatewayConfig]
    now_ms: Callable[[], int]
    rules: Rules
    organizations: Organizations
    credentials: Credentials
    imports: CredentialImport
    tokens: AdminTokens
    sign_ins: SignIns
    objects: ObjectRegister


def directory_book(
    database: Database,
    config: Callable[[], GatewayConfig],
    *,
    now_ms: Callable[[], int],
    random_bytes: Callable[[int], bytes],
    on_committed: Callable[[], Awaitable[None]],
    unmark: Unmark = no_marks,
) -> DirectoryBook:
    """random_bytes: `secrets.token_bytes`. on_committed: notifies the processes that hold copies; must not raise.

    unmark   removes the marks of objects that an organization no longer owns; raises StoreError
    """
    changes, rules = Changes(database, now_ms=now_ms, on_committed=on_committed), Rules(config)
    return DirectoryBook(
        database=database,
        config=config,
        now_ms=now_ms,
        rules=rules,
        organizations=Organizations(changes, rules, unmark),
        credentials=Credentials(changes, rules, random_bytes=random_bytes),
        imports=CredentialImport(changes, rules),
        tokens=AdminTokens(changes, random_bytes=random_bytes),
        sign_ins=SignIns(changes, rules, random_bytes=random_bytes),
        objects=ObjectRegister(changes, rules, unmark),
    )
