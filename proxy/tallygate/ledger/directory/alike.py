"""Organizations out of rows: what many of them have in common is read once, and shared."""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

from tallygate.config.organizations import is_digest
from tallygate.config.section import is_identifier
from tallygate.domain.declared import Instant, is_text, values_of
from tallygate.domain.organization import CREDENTIAL_FIELDS, ORGANIZATION_FIELDS, Credential, Organization
from tallygate.ledger.directory.errors import InvalidChangeError
from tallygate.ledger.directory.records import StoredCredential, StoredOrganization
from tallygate.ledger.directory.rules import CREDENTIALS_OF_ONE_MAX, Rules

PATTERNS_MAX: Final = 10_000  # of each kind; then remembering begins anew
_ORGANIZATION_FIELDS: Final = tuple(declared for declared in ORGANIZATION_FIELDS if declared.attribute != "name")
_ORGANIZATION_FIELDS_OF: Final = attrgetter(*(declared.attribute for declared in _ORGANIZATION_FIELDS))
_OWN: Final = frozenset({"name", "expires_at_ms"})  # fields that few credentials share
_CREDENTIAL_FIELDS: Final = tuple(declared for declared in CREDENTIAL_FIELDS if declared.attribute not in _OWN)
_CREDENTIAL_FIELDS_OF: Final = attrgetter(*(declared.attribute for declared in _CREDENTIAL_FIELDS))
_JUDGED: Final = (
    *((declared.attribute, declared.kind.is_sound) for declared in CREDENTIAL_FIELDS if declared.attribute in _OWN),
    ("old_key_until_ms", Instant("").is_sound),
)
_Values = tuple[object, ...]
_Shared = Mapping[str, Any]  # what those with the same values have in common, by attribute


class AlikeReader:
    """Reads organizations as `Rules` does, under one configuration: another one needs another reader.

    Rules judge values (plan, limits, models ...) without regard to who has them. So they read the first organization and the first
    credential of each kind, and those with the same values are made in its likeness, with names and digests of their own and the
    same plan, sets and limits in memory. Whoever has a name, digest or time that is out of the ordinary is read by the rules.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._organizations: dict[_Values, _Shared] = {}
        self._credentials: dict[_Values, _Shared] = {}

    def parse(self, stored: StoredOrganization, credentials: Sequence[StoredCredential]) -> Organization:
        """Raises InvalidChangeError with every problem."""
        if not _is_ordinary(stored, credentials):
            return self._rules.effective(stored, credentials)
        values = (stored.plan, *_ORGANIZATION_FIELDS_OF(stored), repr(stored.limits))
        try:
            shared = self._organizations.get(values)
            if shared is None:
                like = self._rules.effective(stored, ())
                shared = _kept(self._organizations, values, {"plan": like.plan, **values_of(_ORGANIZATION_FIELDS, like)})
            held = tuple([self._credential(stored, values, credential) for credential in credentials])
        except InvalidChangeError:
            return self._rules.effective(stored, credentials)  # which tells all the problems
        return Organization(id=stored.id, name=stored.name, credentials=held, **shared)

    def _credential(self, organization: StoredOrganization, of_organization: _Values, stored: StoredCredential) -> Credential:
        values = (*of_organization, stored.revoked_at_ms is None, *_CREDENTIAL_FIELDS_OF(stored), repr(stored.limits))
        shared = self._credentials.get(values)
        if shared is None:
            like = self._rules.effective(organization, (stored,)).credentials[0]
            limits = {"rate_limits": like.rate_limits, "spend_limits": like.spend_limits}
            shared = _kept(self._credentials, values, values_of(_CREDENTIAL_FIELDS, like) | limits)
        old, until = stored.old_key_sha256, stored.old_key_until_ms
        has_old = old is not None and until is not None
        return Credential(
            id=stored.id,
            org=organization.id,
            key_sha256=bytes.fromhex(stored.key_sha256 or ""),
            old_key_sha256=bytes.fromhex(old or "") if has_old else b"",
            old_key_until_ms=until or 0 if has_old else 0,
            name=stored.name,
            expires_at_ms=stored.expires_at_ms,
            is_self_made=stored.is_self_made,
            **shared,
        )


def _kept(patterns: dict[_Values, _Shared], values: _Values, shared: _Shared) -> _Shared:
    if len(patterns) >= PATTERNS_MAX:
        patterns.clear()
    patterns[values] = shared
    return shared


def _is_ordinary(stored: StoredOrganization, credentials: Sequence[StoredCredential]) -> bool:
    """Whether the rules have nothing to say about what is not shared."""
    if not (is_identifier(stored.id) and is_text(stored.name)) or len(credentials) > CREDENTIALS_OF_ONE_MAX:
        return False
    digests: set[str] = set()
    for credential in credentials:
        for digest in (credential.key_sha256, credential.old_key_sha256):
            if digest is None:
                continue
            if digest in digests or not is_digest(digest):
                return False
            digests.add(digest)
        if not is_identifier(credential.id):
            return False
        for name, is_sound in _JUDGED:
            if not is_sound(getattr(credential, name)):
                return False
    return True
