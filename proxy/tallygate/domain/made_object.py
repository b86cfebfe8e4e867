"""An object that an exchange created upstream, and which its organization therefore owns."""

import msgspec

ID_CHARS_MAX = 512
MADE_MAX = 64  # of one exchange


class MadeObject(msgspec.Struct, frozen=True, omit_defaults=True):
    """One object, as a usage event carries it to the ledger.

    upstream   name of the upstream that stores it: two upstreams may use one id for different objects
    tokens     the most that it can add to a later prompt; None if unknown
    """

    kind: str
    id: str
    upstream: str
    tokens: int | None = None
