"""POST /api/apply: brings organizations, as a file has them, into the directory, by the same functions as `tallygate apply`."""

import asyncio
from typing import Any, Final, Literal, TypedDict

from tallygate.config.plain_values import FieldProblems, section_of
from tallygate.config.section import duration_ms
from tallygate.console.api_body import read_object
from tallygate.console.api_errors import ApiError
from tallygate.console.api_routes import ApiCall, ApiRoute
from tallygate.console.directory_access import directory_route, need_platform
from tallygate.ledger.directory.apply import Step, Verb, apply_step, check_document, step_shown, steps_to
from tallygate.ledger.directory.book import DirectoryBook
from tallygate.ledger.directory.credentials import OVERLAP_DEFAULT_MS
from tallygate.ledger.directory.errors import InvalidChangeError

BODY_BYTES_MAX: Final = 2**20  # some 3,000 organizations with a credential each
_ENTRIES: Final = "organizations"
_FLAGS: Final = ("prune", "dry_run")


class ApplyBody(TypedDict, total=False):
    """organizations: as in organizations.yaml. prune: delete organizations and revoke credentials that it lacks. overlap: how long
    a key that it replaces still holds, such as "24h" or "0s". dry_run: only say what would change.
    """

    organizations: list[dict[str, Any]]
    prune: bool
    overlap: str
    dry_run: bool


class AppliedStep(TypedDict):
    """One change.

    credential      null where it concerns the organization
    before, after   the fields that differ; a digest that was stored is not shown
    """

    verb: Literal["create", "change", "rotate", "revoke", "delete"]
    organization: str
    credential: str | None
    before: dict[str, Any]
    after: dict[str, Any]


class AppliedSteps(TypedDict):
    """The changes, in the order in which they were made, or would be."""

    steps: list[AppliedStep]


def apply_routes(book: DirectoryBook) -> tuple[ApiRoute, ...]:
    async def apply(call: ApiCall) -> object:
        need_platform(call, "applying a file")
        fields = await read_object(call.request, bytes_max=BODY_BYTES_MAX)
        flags, overlap_ms = _options(fields)
        problems = FieldProblems()
        try:
            document = section_of({name: fields[name] for name in (_ENTRIES,) if name in fields}, problems)
        except ValueError as error:
            raise InvalidChangeError(str(error)) from error
        await asyncio.to_thread(check_document, document, book)
        if problems:
            raise InvalidChangeError(problems.lines[0], param=problems.param, problems=problems.texts())
        if flags["prune"] and not fields[_ENTRIES]:
            raise InvalidChangeError(f"{_ENTRIES}: are none, and prune would delete every organization", param=_ENTRIES)
        steps = await steps_to(book, fields[_ENTRIES], prunes=flags["prune"])
        if not flags["dry_run"]:
            for step in steps:
                await apply_step(book, call.access.actor, step, overlap_ms=overlap_ms)
        return {"steps": [_shown(step) for step in steps]}

    return (
        directory_route(
            "POST",
            "/api/apply",
            apply,
            "Make the directory hold what a file of organizations says. A change that fails leaves those before it in effect.",
            answer=AppliedSteps,
            body=ApplyBody,
            tag="organizations",
        ),
    )


def _options(fields: dict[str, Any]) -> tuple[dict[str, bool], int]:
    """What is asked beside the organizations. Raises ApiError."""
    for name in fields.keys() - {_ENTRIES, "overlap", *_FLAGS}:
        raise ApiError(status=400, code="invalid_request", message=f"{name[:64]}: is not known here", param=name[:64])
    flags = {name: fields.get(name, False) for name in _FLAGS}
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise ApiError(status=400, code="invalid_request", message=f"{name}: must be true or false", param=name)
    return flags, read_overlap(fields.get("overlap"))


def read_overlap(given: object) -> int:
    """How long a key before still holds. Raises ApiError."""
    if given is None:
        return OVERLAP_DEFAULT_MS
    if given in ("0", "0s"):
        return 0
    try:
        return duration_ms(given if isinstance(given, str) else "")
    except ValueError as error:
        raise ApiError(status=400, code="invalid_request", message=f"overlap: {error}", param="overlap") from None


def _shown(step: Step) -> dict[str, Any]:
    shown = step_shown(step)
    return {**shown, "before": {}} if step.verb is Verb.ROTATE else shown
