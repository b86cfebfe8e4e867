"""The JSON Schemas judge files as the loader does, as far as a schema can; `full/` has files with every key."""

import base64
import json
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema_rs
import jwt
import pytest
import trustme
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from test_bad_files import BAD, expected_problems

from tallygate.config.authentication import read_authentication
from tallygate.config.document import read_document
from tallygate.config.load import CONFIG_FILES
from tallygate.config.organizations import read_organizations
from tallygate.config.plain_values import plain_value
from tallygate.config.plans import read_plans
from tallygate.config.price_differences import read_reviewed
from tallygate.config.price_updates import with_updates
from tallygate.config.prices import read_prices
from tallygate.config.problems import Problems
from tallygate.config.routes import capabilities_of, read_routes
from tallygate.config.schemas import schema_name, schemas
from tallygate.config.section import Section
from tallygate.config.shipped import shipped_directory
from tallygate.config.sign_in import read_sign_in
from tallygate.config.upstreams import read_upstreams
from tallygate.config.webhooks import read_webhooks
from tallygate.dialects.registry import dialects
from tallygate.domain.unit import Unit
from tallygate.outbound.way_out import WayOut

DIALECTS = dialects()
SECRET = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"
CHAT_URL = "https://hooks.slack.example/services/T0/B0/5ecret"
CONFIG = shipped_directory()
FULL = sorted((Path(__file__).parent / "full").glob("*.yaml"))
ENVIRON = {"A_SECRET": "s3cret", "SIGNING": SECRET, "URL": CHAT_URL}
SHIPPED_ROUTES = read_routes(
    read_document("routes.yaml", (CONFIG / "routes.yaml").read_bytes(), Problems()), known_dialects=DIALECTS.traits
)
CAPABILITIES = capabilities_of(SHIPPED_ROUTES)
SCHEMAS = schemas(dialects=DIALECTS.traits, capabilities=CAPABILITIES)
VALIDATORS = {name: jsonschema_rs.validator_for(schema) for name, schema in SCHEMAS.items()}
SHIPPED_PLANS = read_plans(read_document("plans.yaml", (CONFIG / "plans.yaml").read_bytes(), Problems()), capabilities=CAPABILITIES)
LISTED = read_prices(read_document("prices.yaml", b'prices: [{model: gpt-4o-mini, input: "1", output: "1"}]', Problems()))
READERS: Mapping[str, Callable[[Section], object]] = {
    "organizations.yaml": partial(read_organizations, plans=SHIPPED_PLANS, capabilities=CAPABILITIES, needs_keys=False),
    "plans.yaml": partial(read_plans, capabilities=CAPABILITIES),
    "routes.yaml": partial(read_routes, known_dialects=DIALECTS.traits),
    "upstreams.yaml": partial(
        read_upstreams, environ=ENVIRON, default_url="https://up.example.com", default_api_key="", way=WayOut()
    ),
    "prices.yaml": partial(read_prices, listed=LISTED),
    "listed_prices.yaml": partial(with_updates, LISTED),
    "price_differences.yaml": read_reviewed,
    "authentication.yaml": partial(read_authentication, environ=ENVIRON),
    "webhooks.yaml": partial(read_webhooks, environ=ENVIRON, reads_secrets=True),
    "sign_in.yaml": partial(read_sign_in, environ=ENVIRON),
}
# Problems of which a schema says nothing, with the reason; docs/configuration.md, "In an editor", has them in words.
UNSAYABLE_TEXTS = (
    # what another place says: another entry, another file, a variable, a file that is named, the time zones of this machine
    r"is already (used|described)|bounds the same thing|is the digest of another|from the same instant|answers the same requests",
    r"is given twice|could pass for the other|may only tighten|is not a (plan|capability)|names the unknown upstream",
    r"which has no price|has a price of its own|which is no family|the path does not have|has no `key_sha256`",
    r"which is not set|cannot be read|holds no (certificates|public key)|must be a time zone",
    # what two values say together
    r"cannot be kept|must be at most max_usd|must be ascending|can name .* alone|together, with one n|needs `image` too",
    r"over a WebSocket|is spoken over nothing else|needs text between two parameters|names a parameter twice",
    # sizes of what is text in the file
    r"must be between .*, got|multiple of 5m|must be whole days|must be at most [0-9.]+ ?(USD|,)",
    r"must have at most \d+ decimal places",
    # single values that are out of the question
    r"is no id|is the digest of nothing|names a header that never passes|must be a date such as",
)
UNSAYABLE = re.compile("|".join(UNSAYABLE_TEXTS))


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The files that those in `full/` name, by the words that stand there for them."""
    key = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key()))
    texts = {
        "AUTHORITIES": trustme.CA().cert_pem.bytes().decode(),
        "SECRET": "s3cret",
        "KEYS": json.dumps({"keys": [{**key, "kid": "1", "alg": "ES256", "use": "sig"}]}),
        "SIGNING_FILE": SECRET,
        "URL_FILE": CHAT_URL,
    }
    directory = tmp_path_factory.mktemp("places")
    for name, text in texts.items():
        (directory / name).write_text(text)
    return {name: str(directory / name) for name in texts}


def loader_problems(name: str, text: bytes) -> list[str]:
    problems = Problems()
    document = read_document(name, text, problems)
    if document is not None:
        READERS[name](document)
    return problems.lines


def as_values(text: bytes) -> Any:
    """A file's values as the loader and an editor read them: a date is text, whatever else the YAML library makes of it."""
    return plain_value(_as_in_1_2(yaml.compose(text, Loader=yaml.SafeLoader)))


def _as_in_1_2(node: Any) -> Any:
    """The node with `yes` and `on` as text: the loader refuses them as booleans, and YAML 1.2 knows none of that name."""
    if isinstance(node, yaml.ScalarNode) and node.tag.endswith(":bool") and node.value.lower() not in {"true", "false"}:
        node.tag = "tag:yaml.org,2002:str"
    for each in node.value if isinstance(node, yaml.CollectionNode) else ():
        for inner in each if isinstance(each, tuple) else (each,):
            _as_in_1_2(inner)
    return node


def as_file(value: Any) -> bytes:
    return json.dumps(value).encode()  # YAML too


def full(path: Path, places: Mapping[str, str]) -> Any:
    def placed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: placed(each) for key, each in value.items()}
        if isinstance(value, list):
            return [placed(each) for each in value]
        return places.get(value, value) if isinstance(value, str) else value

    return placed(as_values(path.read_bytes()))


def name_of(path: Path) -> str:
    return f"{path.name.partition('.')[0]}.yaml"


def assert_judged_alike(name: str, value: Any) -> bool:
    """Return whether both refuse it: the schema nothing that the loader accepts, and all of which it can say why."""
    problems = loader_problems(name, as_file(value))
    sayable = [problem for problem in problems if not UNSAYABLE.search(problem)]
    is_accepted = VALIDATORS[name].is_valid(value)

    assert problems or is_accepted, [str(error) for error in VALIDATORS[name].iter_errors(value)]
    assert not (sayable and is_accepted), sayable
    return not is_accepted


def mappings(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        yield at
    for key, each in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from mappings(each, (*at, key))


def values(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if at:
        yield at
    for key, each in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from values(each, (*at, key))


def at_path(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    copy = deepcopy(value)
    at_path(copy, path[:-1])[path[-1]] = new
    return copy


def without(value: Any, path: tuple[Any, ...]) -> Any:
    copy = deepcopy(value)
    del at_path(copy, path[:-1])[path[-1]]
    return copy


def nodes(schema: dict[str, Any], value: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Each part of a value with the part of the schema that it falls under."""
    yield schema, value
    for branch in [*schema.get("oneOf", ()), *schema.get("anyOf", ())]:
        has_parts = not {"properties", "items", "additionalProperties"}.isdisjoint(branch)
        if has_parts and jsonschema_rs.validator_for(branch).is_valid(value):
            yield from nodes(branch, value)
    if isinstance(value, dict):
        for key, each in value.items():
            others = schema.get("additionalProperties")
            found = schema.get("properties", {}).get(key) or (others if isinstance(others, dict) else None)
            if found:
                yield from nodes(found, each)
    for item in value if isinstance(value, list) and "items" in schema else ():
        yield from nodes(schema["items"], item)


def closed(schema: Any) -> Iterator[dict[str, Any]]:
    """Each mapping of a schema that has no keys but its own."""
    if isinstance(schema, dict):
        if schema.get("additionalProperties") is False:
            yield schema
        schema = list(schema.values())
    for each in schema if isinstance(schema, list) else ():
        yield from closed(each)


def test_every_file_of_a_configuration_has_a_schema() -> None:
    assert {*CONFIG_FILES, "price_differences.yaml"} == set(SCHEMAS)
    for schema in SCHEMAS.values():
        jsonschema_rs.meta.validate(schema)


def test_the_shipped_schemas_are_those_of_this_version() -> None:
    shipped = {path.name: json.loads(path.read_text()) for path in (CONFIG / "schemas").iterdir()}

    assert shipped == {schema_name(name): schema for name, schema in SCHEMAS.items()}, (
        "run `tallygate schema --write config/schemas`"
    )


@pytest.mark.parametrize(
    "path", sorted([*CONFIG.glob("*.yaml"), *CONFIG.glob("starters/**/*.yaml")]), ids=lambda path: str(path.relative_to(CONFIG))
)
def test_a_shipped_file_is_valid_and_names_its_schema(path: Path) -> None:
    name = path.name.replace(".example", "")
    text = path.read_bytes().replace(b"KEY_SHA256", b"f" * 64)

    VALIDATORS[name].validate(as_values(text))

    if "starters" not in path.parts:  # `tallygate init` writes the line over those
        assert text.startswith(f"# yaml-language-server: $schema=schemas/{schema_name(name)}\n".encode())


@pytest.mark.parametrize("path", FULL, ids=lambda path: path.name)
def test_a_file_with_every_key_is_valid_for_both(path: Path, places: Mapping[str, str]) -> None:
    value = full(path, places)

    VALIDATORS[name_of(path)].validate(value)
    assert loader_problems(name_of(path), as_file(value)) == []


def test_the_full_files_have_every_key_of_the_schemas(places: Mapping[str, str]) -> None:
    used: dict[int, set[str]] = {}
    for path in FULL:
        for schema, value in nodes(SCHEMAS[name_of(path)], full(path, places)):
            if isinstance(value, dict) and "properties" in schema:
                used.setdefault(id(schema["properties"]), set()).update(value)

    for each in closed(list(SCHEMAS.values())):
        assert set(each["properties"]) - set(Unit) - used.get(id(each["properties"]), set()) == set()


@pytest.mark.parametrize("path", FULL, ids=lambda path: path.name)
def test_the_schema_has_every_key_that_the_loader_reads(
    path: Path, places: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[frozenset[str], set[str]]] = []
    close = Section.close

    def noted(self: Section, *, also: Any = ()) -> None:
        read.append((frozenset(self.keys()), self._keys_read.union(also)))
        close(self, also=also)

    monkeypatch.setattr(Section, "close", noted)
    name, value = name_of(path), full(path, places)
    loader_problems(name, as_file(value))
    known: dict[frozenset[str], set[str]] = {}
    for schema, each in nodes(SCHEMAS[name], value):
        if isinstance(each, dict):
            known.setdefault(frozenset(each), set()).update(schema.get("properties", ()), each)

    assert read
    for given, keys in read:
        assert keys - known[given] == set()


@pytest.mark.parametrize("path", FULL, ids=lambda path: path.name)
def test_a_key_too_many_or_too_few_is_refused_by_both_or_neither(path: Path, places: Mapping[str, str]) -> None:
    name, value = name_of(path), full(path, places)
    for at in mappings(value):
        assert_judged_alike(name, changed(value, (*at, "not_a_key"), "x"))
        for key in at_path(value, at):
            assert_judged_alike(name, without(value, (*at, key)))


WRONG = [{"x": {"y": "z"}}, [["x"]], 7.25, 10**15, True, "", "\u2603 ?", []]


@pytest.mark.parametrize("path", FULL, ids=lambda path: path.name)
def test_a_value_of_a_wrong_type_is_refused_by_both(path: Path, places: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssl, "create_default_context", lambda **_: None)  # reads every authority of the machine, each time
    name, value = name_of(path), full(path, places)
    for at in values(value):
        assert [wrong for wrong in WRONG if assert_judged_alike(name, changed(value, at, wrong))], at


@pytest.mark.parametrize("bad", BAD, ids=lambda path: path.stem)
def test_a_bad_file_is_refused_where_a_schema_can_say_why(bad: Path) -> None:
    text = bad.read_text()
    problems = expected_problems(text)
    try:
        value = as_values(text.encode())
    except (yaml.YAMLError, ValueError, RecursionError):
        return  # no editor reads it either
    is_accepted = VALIDATORS[problems[0].partition(":")[0]].is_valid(value)

    assert not is_accepted or all(UNSAYABLE.search(problem) for problem in problems)
