"""/api/organizations/{org}/credentials: only the answer that creates a key contains it."""

from functools import partial
from typing import Any, Final

from tallygate.console.api_apply import read_overlap
from tallygate.console.api_body import read_object
from tallygate.console.api_errors import ApiError
from tallygate.console.api_organizations import ORG
from tallygate.console.api_parameters import Place, text
from tallygate.console.api_routes import ApiCall, ApiRoute
from tallygate.console.directory_access import directory_route, need_platform, the_org
from tallygate.console.directory_shapes import (
    ClientIdReleased,
    CredentialChange,
    CredentialList,
    CredentialListed,
    CredentialShown,
    KeyRotation,
    NewCredential,
)
from tallygate.ledger.directory.book import DirectoryBook
from tallygate.ledger.directory.credentials import CredentialState
from tallygate.ledger.directory.shown import DATABASE, file_credential_shown, limits_shown

TAG: Final = "credentials"
CREDENTIAL: Final = text("credential", "The Client ID.", place=Place.PATH, is_required=True)
_ALL: Final = "/api/organizations/{org}/credentials"
_ONE: Final = f"{_ALL}/{{credential}}"


def credential_routes(book: DirectoryBook) -> tuple[ApiRoute, ...]:
    resource = _Credentials(book)

    route = partial(directory_route, tag=TAG, answer=CredentialShown, parameters=(ORG, CREDENTIAL))
    return (
        route("GET", _ALL, resource.list, "An organization's credentials.", answer=CredentialList, parameters=(ORG,)),
        route(
            "POST",
            _ALL,
            resource.create,
            "Make a credential; its key is shown this once.",
            body=NewCredential,
            status=201,
            parameters=(ORG,),
        ),
        route("GET", _ONE, resource.get, "One credential, with its own limits in effect."),
        route("PATCH", _ONE, resource.change, "Change what the body names; null takes it away.", body=CredentialChange),
        route(
            "POST",
            f"{_ONE}/rotate",
            resource.rotate,
            "Another key, shown this once; the one before holds for `overlap`.",
            body=KeyRotation,
        ),
        route("POST", f"{_ONE}/revoke", resource.revoke, "End it for ever.", answer=CredentialListed),
        route(
            "POST",
            "/api/client-ids/{credential}/release",
            resource.release,
            "Give a Client ID free again that was revoked, or disabled when its organization was deleted.",
            answer=ClientIdReleased,
            parameters=(CREDENTIAL,),
        ),
    )


class _Credentials:
    def __init__(self, book: DirectoryBook) -> None:
        self._book = book

    async def list(self, call: ApiCall) -> object:
        org, now_ms = the_org(call), self._book.now_ms()
        in_file = self._book.rules.in_file(org)
        if in_file is not None:
            return {"credentials": [file_credential_shown(credential, now_ms) for credential in in_file.credentials]}
        found = await self._book.credentials.list(org)
        return {"credentials": [credential.shown(now_ms) | {"managed_by": DATABASE} for credential in found]}

    async def create(self, call: ApiCall) -> object:
        org = the_org(call)
        is_self_made = call.access.orgs is not None
        document = await read_object(call.request)
        return self._shown(await self._book.credentials.create(call.access.actor, org, document, is_self_made=is_self_made))

    async def get(self, call: ApiCall) -> object:
        org = the_org(call)
        in_file = self._book.rules.in_file(org)
        for credential in () if in_file is None else in_file.credentials:
            if credential.id == call.values["credential"]:
                return file_credential_shown(credential, self._book.now_ms()) | {"effective": limits_shown(credential)}
        return self._shown(await self._book.credentials.get(org, call.values["credential"]))

    async def change(self, call: ApiCall) -> object:
        org, fields = the_org(call), await read_object(call.request)
        return self._shown(await self._book.credentials.change(call.access.actor, org, call.values["credential"], fields))

    async def rotate(self, call: ApiCall) -> object:
        """Body: `overlap`, such as "24h" or "0s"; `key_sha256` of the caller's own new key. Both are optional."""
        org, fields = the_org(call), await read_object(call.request)
        overlap_ms = read_overlap(fields.pop("overlap", None))
        digest = fields.pop("key_sha256", None)
        if fields or not (digest is None or isinstance(digest, str)):
            param = next(iter(fields), "key_sha256")
            raise ApiError(
                status=400, code="invalid_request", message=f"{param[:64]}: is not known here, or not text", param=param[:64]
            )
        rotated = await self._book.credentials.rotate(
            call.access.actor, org, call.values["credential"], overlap_ms=overlap_ms, key_sha256=digest
        )
        return self._shown(rotated)

    async def revoke(self, call: ApiCall) -> object:
        revoked = await self._book.credentials.revoke(call.access.actor, the_org(call), call.values["credential"])
        return revoked.shown(self._book.now_ms()) | {"managed_by": DATABASE}

    async def release(self, call: ApiCall) -> object:
        need_platform(call, "releasing a Client ID")
        await self._book.credentials.release(call.access.actor, call.values["credential"])
        return {"id": call.values["credential"]}

    def _shown(self, state: CredentialState) -> dict[str, Any]:
        shown = state.stored.shown(self._book.now_ms()) | {
            "managed_by": DATABASE,
            "effective": limits_shown(state.effective),
        }
        return shown if state.api_key is None else shown | {"api_key": state.api_key}
