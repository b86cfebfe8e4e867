"""Signatures as Standard Webhooks describes them (standardwebhooks.com, specification 1.0.0, "Verifying webhook authenticity")."""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence


def webhook_id(event_id: str) -> str:
    """The id of a message: the same for every attempt. A full stop separates what is signed, so it may not be in an id."""
    return event_id.replace(".", "~")  # which no id of an organization or limit has


def signed_headers(message_id: str, body: bytes, *, keys: Sequence[bytes], at_ms: int) -> Mapping[str, str]:
    """The headers that go with a body. keys: one, or two while a secret is rotated; each signs."""
    seconds = at_ms // 1000
    signed = f"{message_id}.{seconds}.".encode() + body
    signatures = [base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
