"""Keys and whose they are."""

import hashlib
import hmac
import re
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallygate.config.directory import KEY_CHARS_MAX, Directory, generate_key
from tallygate.domain.organization import Credential, Organization, Plan


def sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def an_organization(org: str = "acme", **digests: bytes) -> Organization:
    credentials = tuple(Credential(id=name.replace("__", "-"), org=org, key_sha256=digest) for name, digest in digests.items())
    return Organization(id=org, name=org, plan=Plan(id="p"), credentials=credentials)


def found_id(directory: Directory, key: str) -> str | None:
    found = directory.find(key)
    return found[1].id if found is not None else None


def test_an_issued_key_is_found_by_the_digest_of_its_secret_part() -> None:
    directory = Directory([an_organization(prod=sha256("s3cret"), test=sha256("0ther"))])

    assert found_id(directory, "tg_prod_s3cret") == "prod"
    assert found_id(directory, "tg_test_0ther") == "test"
    assert found_id(directory, "tg_test_s3cret") is None


def test_an_issued_key_is_also_found_by_the_digest_of_the_whole() -> None:
    assert found_id(Directory([an_organization(prod=sha256("tg_prod_s3cret"))]), "tg_prod_s3cret") == "prod"


def test_a_client_id_may_hold_underscores() -> None:
    assert found_id(Directory([an_organization(a_b_=sha256("x"))]), "tg_a_b__x") == "a_b_"


def test_a_key_that_the_client_brings_is_found_by_the_digest_of_the_whole() -> None:
    directory = Directory([an_organization(byo=sha256("sk-proj-abc_def"))])

    assert found_id(directory, "sk-proj-abc_def") == "byo"
    assert found_id(directory, "sk-proj-abc_deg") is None


def test_the_organization_comes_with_the_credential() -> None:
    acme, globex = an_organization("acme", a=sha256("1")), an_organization("globex", b=sha256("2"))
    found = Directory([acme, globex]).find("tg_b_2")

    assert found == (globex, globex.credentials[0])


def test_a_generated_key_is_found_and_its_secret_has_no_underscore() -> None:
    issued = generate_key("acme-prod", lambda size: bytes(range(size)))
    directory = Directory([an_organization(acme__prod=issued.key_sha256)])

    assert re.fullmatch(r"tg_acme-prod_[a-z2-7]{52}", issued.api_key)
    assert found_id(directory, issued.api_key) == "acme-prod"
    assert issued.api_key not in repr(issued)


def test_an_unknown_id_is_compared_like_a_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def record(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", record)
    directory = Directory([an_organization(prod=sha256("s"))])
    for key in ("tg_prod_wrong", "tg_nobody_wrong", "tg_", "tg__"):
        assert directory.find(key) is None

    assert compared == [(32, 32)] * 8  # with the key of today and with the one before a rotation


def test_a_recognized_key_is_remembered_by_its_digest_and_a_wrong_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    directory = Directory([an_organization(prod=sha256("s"))])
    before = directory.find("tg_prod_s")
    for number in range(100):
        directory.find(f"tg_prod_{number}")
    monkeypatch.setattr(hmac, "compare_digest", lambda *_: False)

    assert before is not None
    assert directory.find("tg_prod_s") is before
    assert directory.find("tg_prod_1") is None
    assert len(directory._found) == 1


def test_a_key_that_was_found_is_found_no_more_once_its_organization_is_gone() -> None:
    own, issued = "my own key", "tg_prod_s"
    directory = Directory([an_organization(prod=sha256("s"), mine=sha256(own))])
    assert (found_id(directory, own), found_id(directory, issued)) == ("mine", "prod")

    directory.put(an_organization("beta", prod=sha256("t")))
    assert (found_id(directory, issued), found_id(directory, "tg_prod_t")) == (None, "prod")
    directory.remove("acme")

    assert (found_id(directory, own), found_id(directory, issued), found_id(directory, "tg_prod_t")) == (None, None, "prod")


def test_a_key_that_was_found_is_anothers_once_a_later_organization_has_it() -> None:
    directory = Directory([an_organization(mine=sha256("my own key"))])
    assert found_id(directory, "my own key") == "mine"

    directory.put(an_organization("beta", theirs=sha256("my own key")))

    assert found_id(directory, "my own key") == "theirs"


def test_the_dummy_digest_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count()
    monkeypatch.setattr(hmac, "compare_digest", lambda *_: next(calls) >= 0)

    assert Directory([]).find("tg_nobody_x") is None
    assert next(calls) == 2


@pytest.mark.parametrize("key", ["", "_", "tg_", "tg__", "tg_prod_", "tg_prod", "\udcff\udc80", "tg_\udcff_x", "x\x00", "é" * 100])
def test_odd_keys_are_nobodys(key: str) -> None:
    assert Directory([an_organization(prod=sha256("s"))]).find(key) is None


def test_a_key_beyond_the_maximum_is_nobodys_even_with_a_matching_digest() -> None:
    fits, too_long = "k" * KEY_CHARS_MAX, "k" * (KEY_CHARS_MAX + 1)
    directory = Directory([an_organization(a=sha256(fits), b=sha256(too_long))])

    assert found_id(directory, fits) == "a"
    assert directory.find(too_long) is None


@given(st.text(st.characters(), max_size=200))
def test_no_text_makes_it_raise_or_find_anybody(text: str) -> None:
    directory = Directory([an_organization(prod=sha256("not to be found"))])
    for key in (text, f"tg_{text}", f"tg_prod_{text}"):
        assert directory.find(key) is None or key.endswith("not to be found")


def a_rotated(**more) -> Organization:
    credential = Credential(
        id="prod", org="acme", key_sha256=sha256("new"), old_key_sha256=sha256("old"), old_key_until_ms=1_000, **more
    )
    return Organization(id="acme", name="Acme", plan=Plan(id="p"), credentials=(credential,))


def test_a_rotated_key_is_its_credential_until_the_overlap_ends() -> None:
    directory = Directory([a_rotated()])
    new, old = directory.find("tg_prod_new"), directory.find("tg_prod_old")

    assert new is not None
    assert new[1].expires_at_ms is None
    assert old is not None
    assert (old[1].id, old[1].expires_at_ms) == ("prod", 1_000)
    assert directory.find("tg_prod_old") is old


def test_an_old_key_does_not_outlive_its_credential() -> None:
    found = Directory([a_rotated(expires_at_ms=500)]).find("tg_prod_old")

    assert found is not None
    assert found[1].expires_at_ms == 500


def test_a_credential_without_a_key_is_found_by_its_id_alone() -> None:
    directory = Directory([an_organization(prod=b"")])

    assert directory.credential("prod") is not None
    assert all(directory.find(key) is None for key in ("tg_prod_", "tg_prod_x", ""))


def test_an_organization_put_in_place_of_another_takes_its_keys_away_also_those_that_were_seen() -> None:
    directory = Directory([a_rotated()])
    assert directory.find("tg_prod_new")
    assert directory.find("tg_prod_old")
    directory.put(Organization(id="acme", name="Acme", plan=Plan(id="q"), credentials=()))

    assert directory.find("tg_prod_new") is None
    assert directory.find("tg_prod_old") is None
    assert directory.credential("prod") is None
    found = directory.organization("acme")
    assert found is not None
    assert found.plan.id == "q"
    assert directory._by_digest == {}


def test_a_removed_organization_is_nobody() -> None:
    directory = Directory([a_rotated()])
    directory.remove("acme")
    directory.remove("never here")

    assert directory.organization("acme") is None
    assert directory.find("tg_prod_new") is None
