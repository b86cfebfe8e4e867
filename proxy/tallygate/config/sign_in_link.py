"""One-time links that sign in at the console's page, as those make them who do not store them: little is imported for it."""

import base64
from collections.abc import Callable
from typing import Final

STARTED_LINK: Final = "sign_in_link.sha256"  # in the data directory: the digest of a link that a start showed, for the console
_PREFIX: Final = "tgl_"


def new_link_secret(random_bytes: Callable[[int], bytes]) -> str:
    return _PREFIX + base64.b32encode(random_bytes(25)).decode().lower()


def link_fragment(secret: str) -> str:
    """The end of a link's URL. Browsers keep a fragment to themselves: it is in no log and no Referer."""
    return f"#link={secret}"
