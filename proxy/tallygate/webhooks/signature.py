"""Signatures as Standard Webhooks describes them (standardwebhooks.com, specification 1.0.0, "Verifying webhook authenticity")."""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence


def webhook_id(event_id: str) -> str:
    """The id of a message: the same for every attempt. It may have no full stop, which separates the signed parts."""
    return event_id.replace(".", "~")  # no id of an organization or limit has a tilde


def signed_headers(message_id: str, body: bytes, *, keys: Sequence[bytes], at_ms: int) -> Mapping[str, str]:
    """The headers for a body. keys: one, or two while a secret is being rotated; each signs."""
    seconds = at_ms // 1000
    signed = f"{message_id}.{seconds}.".encode() + body
    signatures = [base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
