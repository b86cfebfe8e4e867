"""An object that an exchange made upstream: who made it, owns it."""

import msgspec

ID_CHARS_MAX = 512
MADE_MAX = 64  # of one exchange


class MadeObject(msgspec.Struct, frozen=True, omit_defaults=True):
    """One object, as a usage event carries it to the ledger.

    upstream   name of the upstream that keeps it: two of them may know different things by one id
    tokens     the most that it can put into a later prompt; None if nothing is known of that
    """

    kind: str
    id: str
    upstream: str
    tokens: int | None = None
