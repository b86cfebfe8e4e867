"""Organizations out of rows: what many of them have in common is read once, and shared."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Final, TypeVar

from tallygate.config.organizations import is_digest
from tallygate.config.section import is_identifier
from tallygate.domain.declared import Instant, is_text
from tallygate.domain.organization import CREDENTIAL_TERMS, ORGANIZATION_TERMS, Credential, Organization
from tallygate.ledger.directory.errors import InvalidChangeError
from tallygate.ledger.directory.records import StoredCredential, StoredOrganization
from tallygate.ledger.directory.rules import CREDENTIALS_OF_ONE_MAX, Rules

PATTERNS_MAX: Final = 10_000  # of each kind; then remembering begins anew
_SHARED_BY_ORGANIZATIONS: Final = tuple(term.attribute for term in ORGANIZATION_TERMS if term.attribute != "name")
_SHARED_OF_ORGANIZATION: Final = attrgetter(*_SHARED_BY_ORGANIZATIONS)
_OWN: Final = ("name", "expires_at_ms")  # terms of a credential that many do not share
_SHARED: Final = tuple(term.attribute for term in CREDENTIAL_TERMS if term.attribute not in _OWN)
_SHARED_OF: Final = attrgetter(*_SHARED)
_JUDGED: Final = (
    *((term.attribute, term.kind.is_sound) for term in CREDENTIAL_TERMS if term.attribute in _OWN),
    ("old_key_until_ms", Instant("").is_sound),
)
_Terms = tuple[object, ...]
_Pattern = TypeVar("_Pattern", Organization, Credential)


class AlikeReader:
    """Reads organizations as `Rules` does, under one configuration: another one needs another reader.

    Rules judge terms (plan, limits, models ...) without regard to who has them. So they read the first organization and the first
    credential of each kind, and those with the same terms are made in its likeness, with names and digests of their own and the
    same plan, sets and limits in memory. Whoever has a name, digest or time that is out of the ordinary is read by the rules.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._organizations: dict[_Terms, Organization] = {}
        self._credentials: dict[_Terms, Credential] = {}

    def read(self, stored: StoredOrganization, credentials: Sequence[StoredCredential]) -> Organization:
        """Raises InvalidChangeError with every problem."""
        if not _is_ordinary(stored, credentials):
            return self._rules.effective(stored, credentials)
        terms = (stored.plan, *_SHARED_OF_ORGANIZATION(stored), repr(stored.limits))
        try:
            like = self._organizations.get(terms)
            if like is None:
                like = _kept(self._organizations, terms, self._rules.effective(stored, ()))
            held = tuple([self._credential(stored, terms, credential) for credential in credentials])
        except InvalidChangeError:
            return self._rules.effective(stored, credentials)  # which tells all the problems
        return Organization(
            id=stored.id,
            name=stored.name,
            plan=like.plan,
            **{name: getattr(like, name) for name in _SHARED_BY_ORGANIZATIONS},
            credentials=held,
        )

    def _credential(self, organization: StoredOrganization, of_organization: _Terms, stored: StoredCredential) -> Credential:
        terms = (*of_organization, stored.revoked_at_ms is None, *_SHARED_OF(stored), repr(stored.limits))
        like = self._credentials.get(terms)
        if like is None:
            like = _kept(self._credentials, terms, self._rules.effective(organization, (stored,)).credentials[0])
        old, until = stored.old_key_sha256, stored.old_key_until_ms
        has_old = old is not None and until is not None
        return Credential(
            id=stored.id,
            org=organization.id,
            key_sha256=bytes.fromhex(stored.key_sha256 or ""),
            old_key_sha256=bytes.fromhex(old or "") if has_old else b"",
            old_key_until_ms=until or 0 if has_old else 0,
            **{name: getattr(like, name) for name in _SHARED},
            **{name: getattr(stored, name) for name in _OWN},
            rate_limits=like.rate_limits,
            spend_limits=like.spend_limits,
            is_self_made=stored.is_self_made,
        )


def _kept(patterns: dict[_Terms, _Pattern], terms: _Terms, pattern: _Pattern) -> _Pattern:
    if len(patterns) >= PATTERNS_MAX:
        patterns.clear()
    patterns[terms] = pattern
    return pattern


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
        if not is_identifier(credential.id) or not all(is_sound(getattr(credential, name)) for name, is_sound in _JUDGED):
            return False
    return True
