"""The gateway's answers to what is no valid HTTP: constant, since no dialect is known and nothing of the input may come back."""

from http import HTTPStatus

from aiohttp import web

from tallygate.serving.malformed import Fault


def malformed_answer(fault: Fault) -> web.Response:
    """In the shape of a problem (RFC 9457), with the error object that SDKs look for."""
    status, message = HTTPStatus(fault.status), fault.message
    kind = "server_error" if status == HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    code = "internal_error" if status == HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request"
    body = (
        f'{{"type":"about:blank","title":"{status.phrase}","status":{status.value},"detail":"{message}",'
        f'"error":{{"message":"{message}","type":"{kind}","param":null,"code":"{code}"}}}}'
    )
    return web.Response(status=status, body=body.encode(), content_type="application/problem+json")
