"""The conditions under which headers of a request go up to an upstream."""

from functools import lru_cache
from hashlib import blake2b
from typing import ClassVar, Final

import msgspec

from tallygate.gateway.header_ways import Way
from tallygate.http1.header import Header, Names, names_of

IDENTITY: Final[Header] = (b"accept-encoding", b"identity")
_READ_AS: Final[tuple[Header, ...]] = ((b"content-type", b"application/json"), IDENTITY)
_IDEMPOTENCY_BYTES: Final = 16
_OPERATORS: Final = frozenset({Way.OWN, Way.IDEMPOTENT})  # these act in the name of the key's owner
# Media types that the meters can read. Others are removed from Accept; if none remains, the request is refused.
_READABLE: Final = frozenset({b"*/*", b"application/*", b"application/json", b"text/*", b"text/event-stream"})
_ACCEPTS_REMEMBERED_MAX: Final = 64


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    """The conditions for forwarding headers of a request whose answer nobody reads.

    is_own_key   the upstream sees the client's own key (`passthrough`), so what the headers act for is the client's too
    org          whose request it is
    more         lower-case names that the route lets through, whatever they mean
    """

    is_own_key: bool
    org: str
    more: frozenset[bytes] = frozenset()

    replaced: ClassVar[frozenset[bytes]] = frozenset()  # headers that stay here for ours
    adds: ClassVar[Names] = ()  # the names of ours

    @property
    def ours(self) -> tuple[Header, ...]:
        """What goes up in place of those that are replaced."""
        return ()

    @staticmethod
    def decided(way: Way, *, is_own_key: bool) -> Way:
        """What becomes of a header that passes only under conditions: PASSES, ENDS, ACCEPT or IDEMPOTENT."""
        if is_own_key or way not in _OPERATORS:
            return Way.PASSES
        return Way.IDEMPOTENT if way is Way.IDEMPOTENT else Way.ENDS

    def idempotent(self, header: Header) -> Header:
        """An idempotency key as the organization's own."""
        own = blake2b(header[1], key=self.org.encode()[:64], digest_size=_IDEMPOTENCY_BYTES)
        return header[0], own.hexdigest().encode()


class ReadablePassage(Passage, frozen=True, kw_only=True):
    """The conditions where the answer has to be readable: it comes uncoded, and the content type is what the body was read as."""

    replaced: ClassVar[frozenset[bytes]] = frozenset({b"accept-encoding"})
    adds: ClassVar[Names] = names_of(_READ_AS)

    @property
    def ours(self) -> tuple[Header, ...]:
        return _READ_AS

    @staticmethod
    def decided(way: Way, *, is_own_key: bool) -> Way:
        if way is Way.ACCEPT:
            return Way.ACCEPT
        if way is Way.CONTENT_TYPE:
            return Way.ENDS
        if is_own_key:
            return Way.PASSES
        return Way.IDEMPOTENT if way is Way.IDEMPOTENT else Way.ENDS


class FormPassage(ReadablePassage, frozen=True, kw_only=True):
    """The conditions where the body is a form, which was read with the boundary that its content type names."""

    content_type: bytes

    @property
    def ours(self) -> tuple[Header, ...]:
        return ((b"content-type", self.content_type), IDENTITY)


class MediaPassage(ReadablePassage, frozen=True, kw_only=True):
    """The conditions where the answer may be sound or pictures, of which any type may be accepted."""

    @staticmethod
    def decided(way: Way, *, is_own_key: bool) -> Way:
        return Way.PASSES if way is Way.ACCEPT else ReadablePassage.decided(way, is_own_key=is_own_key)


@lru_cache(_ACCEPTS_REMEMBERED_MAX)
def readable_accept(accept: bytes) -> bytes:
    """The media ranges of an Accept header that meters can read, without their parameters; empty if there are none."""
    ranges = (each.partition(b";")[0].strip().lower() for each in accept.split(b","))
    return b", ".join(each for each in ranges if each in _READABLE)
