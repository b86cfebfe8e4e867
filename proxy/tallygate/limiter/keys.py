"""Names of the limiter's keys. `{pNN}` is the hash tag: all keys of a partition share a slot of a cluster."""

import hashlib
import re
import zlib
from dataclasses import dataclass
from functools import cache
from typing import Final

PARTITIONS: Final = 64
ALL_PARTITIONS: Final = tuple(range(PARTITIONS))
_ORG: Final = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)


def partition_of(org: str) -> int:
    return zlib.crc32(org.encode()) % PARTITIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionKeys:
    """generation: present while the partition's spend is known; former: what it was when the partition was fenced off.

    events: stream to the ledger. orgs: sorted set, when each is due. probe: begins the names with which commands are tried.
    """

    generation: bytes
    former: bytes
    events: bytes
    orgs: bytes
    probe: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OrgKeys:
    """all: every key that a script of this organization may touch, in the order of its KEYS."""

    partition: int
    rates: bytes
    holds: bytes
    due: bytes
    spend: bytes
    all: tuple[bytes, ...]


@cache
def partition_keys(partition: int) -> PartitionKeys:
    prefix = b"tg:{p%02d}:" % partition
    return PartitionKeys(
        generation=prefix + b"generation",
        former=prefix + b"former",
        events=prefix + b"events",
        orgs=prefix + b"orgs",
        probe=prefix + b"probe",
    )


@cache
def named_keys(name: str, partitions: tuple[int, ...]) -> tuple[bytes, ...]:
    """The key of this name (a field of PartitionKeys) of each partition."""
    return tuple(getattr(partition_keys(partition), name) for partition in partitions)


def org_keys(org: str) -> OrgKeys:
    """Raises ValueError for an id that configuration would not have let through."""
    if not _ORG.fullmatch(org):
        raise ValueError(f"organization id must be 1 to 128 of A-Z a-z 0-9 . _ -, got {org!r}")
    partition = partition_of(org)
    shared = partition_keys(partition)
    prefix = b"tg:{p%02d}:%s:" % (partition, org.encode())
    rates, holds, due, spend = (prefix + name for name in (b"rates", b"holds", b"due", b"spend"))
    return OrgKeys(
        partition=partition,
        rates=rates,
        holds=holds,
        due=due,
        spend=spend,
        all=(shared.generation, shared.events, shared.orgs, rates, holds, due, spend),
    )


def object_key(org: str, upstream: str, kind: str, object_id: str) -> bytes:
    """Present while the organization is known to own this object of an upstream. A digest: ids are as long as clients make them."""
    name = f"{upstream}\0{kind}\0{object_id}".encode("utf-8", "surrogatepass")
    return b"tg:{p%02d}:%s:object:%s" % (
        partition_of(org),
        org.encode(),
        hashlib.blake2b(name, digest_size=16).hexdigest().encode(),
    )
