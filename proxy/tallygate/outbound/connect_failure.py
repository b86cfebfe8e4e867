"""Why no connection to a server could be opened, in words for the log: what the caller is told is less."""

import socket
import ssl
from collections.abc import Mapping
from typing import Final

from aiohttp import ClientConnectorCertificateError, ClientConnectorError

# Of OpenSSL, X509_verify_cert_error_string(3).
_CERTIFICATES: Final[Mapping[int, str]] = {
    9: "its certificate is not valid yet",
    10: "its certificate has expired",
    18: "its certificate is self-signed",
    19: "its certificate is from an unknown authority",
    20: "its certificate is from an unknown authority",
    21: "its certificate is from an unknown authority",
    23: "its certificate was revoked",
    62: "its certificate is for another name",
    64: "its certificate is for another address",
}


def reason_of(error: BaseException) -> str:
    """The reason; "" for what is no failure of a connection. Of aiohttp's errors, what lies below them."""
    if isinstance(error, ClientConnectorCertificateError):
        error = error.certificate_error
    elif isinstance(error, ClientConnectorError):
        error = error.os_error
    match error:
        case TimeoutError():
            return "no connection in time"
        case socket.gaierror():
            return f"its name cannot be resolved: {error.strerror or error}"
        case ssl.SSLCertVerificationError():
            return _CERTIFICATES.get(error.verify_code, f"its certificate is not accepted: {error.verify_message}")
        case ssl.SSLError():
            return f"the TLS handshake failed: {error}"
        case ConnectionRefusedError():
            return "connection refused"
        case ConnectionResetError() | ConnectionAbortedError() | BrokenPipeError():
            return "it closed the connection while it was opened"
        case OSError():
            return error.strerror or str(error)
        case _:
            return ""
