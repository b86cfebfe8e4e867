"""Settings of the process: addresses, stores, secrets, timeouts, maxima.

From flags, TALLYGATE_* variables, secret files and `.env`, in this order.

What operators review and reload (plans, routes, upstreams, prices) is YAML, read by `load.py`.
"""

import os
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import unquote

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from tallygate.config.problems import nearest
from tallygate.config.secret_file import read_secret_file
from tallygate.config.urls import http_url
from tallygate.domain.errors import ConfigError
from tallygate.domain.money import nano_usd_from_usd

PREFIX: Final = "TALLYGATE_"
URL_VARIABLE: Final = f"{PREFIX}URL"  # of commands that ask a console elsewhere; no settings of a process that serves
TOKEN_VARIABLE: Final = f"{PREFIX}TOKEN"
_ADDRESS: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]*):(\d{1,5})", re.ASCII)
_ORIGIN: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]{1,253})(?::(?P<port>[0-9]{1,5}))?", re.ASCII
)
_OWN_PORTS: Final = {"http": "80", "https": "443"}
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}", re.ASCII)  # RFC 9110 section 5.6.2
_HOST_NAME: Final = re.compile(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,253}", re.ASCII)
# Variables that Kubernetes sets for a service called "tallygate", and the suffix for secrets in files.
_FOREIGN: Final = re.compile(r"TALLYGATE_(?:SERVICE_|PORT(?:_|$)).*|TALLYGATE_.*_SERVICE_(?:HOST|PORT).*", re.ASCII)


def _address(text: str) -> str:
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[1]) > 65_535:
        raise ValueError("must be host:port, such as 127.0.0.1:8080 or [::]:8080")
    return text


def _upstream_url(text: str) -> str:
    return http_url(text) if text else text


def _host_names(text: str) -> str:
    if not all(_HOST_NAME.fullmatch(name.strip()) for name in text.split(",") if text.strip()):
        raise ValueError("must be host names or addresses without ports, separated by commas, such as console.internal,10.0.0.5")
    return text


def _origins(text: str) -> str:
    """Origins as browsers write them, in lower case and without the scheme's own port (RFC 6454 section 6.2)."""
    return ",".join(_origin(item.strip()) for item in text.split(",") if item.strip())


def _origin(text: str) -> str:
    found = _ORIGIN.fullmatch(text.lower())
    if text == "*":
        return text
    if found is None or int(found["port"] or 1) not in range(1, 65_536):
        raise ValueError(
            "must be origins separated by commas, each scheme://host or scheme://host:port without a path, "
            "such as https://app.example.com, or * for all"
        )
    port = "" if found["port"] == _OWN_PORTS.get(found["scheme"]) else found["port"]
    return f"{found['scheme']}://{found['host']}{':' if port else ''}{port or ''}"


def _own_origin(text: str) -> str:
    """One origin of a server, without a path: the console's cookies and pages lie at its root."""
    if not text:
        return text
    found = _ORIGIN.fullmatch(text.rstrip("/").lower())
    if found is None or found["scheme"] not in _OWN_PORTS:
        raise ValueError(
            "must be http:// or https:// and a host, with a port if need be, without a path, such as https://usage.example.com"
        )
    return _origin(text.rstrip("/"))


def _usd(text: str) -> str:
    nano_usd_from_usd(text)
    return text


def _one_line(secret: SecretStr) -> SecretStr:
    if not secret.get_secret_value().isprintable():
        raise ValueError("must be one line without control characters")
    return secret


def _collector_url(text: str) -> str:
    if text and not _has_otlp():
        raise ValueError("needs the package opentelemetry-proto: pip install 'tallygate[otel]'")
    try:
        return _upstream_url(text)
    except ValueError as error:
        raise ValueError(str(error).replace("`auth`", f"{PREFIX}OTLP_HEADERS")) from None


def _has_otlp() -> bool:
    try:
        return find_spec("opentelemetry.proto") is not None
    except ModuleNotFoundError:
        return False


def _headers(secret: SecretStr) -> SecretStr:
    header_fields(secret.get_secret_value())
    return secret


def header_fields(text: str) -> dict[str, str]:
    """Headers as OpenTelemetry writes them in its variables: name=value by commas, values percent-encoded if need be.

    Raises ValueError, which quotes nothing.
    """
    found = {}
    for item in filter(None, (each.strip() for each in text.split(","))):
        name, equals, value = item.partition("=")
        name, value = name.strip(), unquote(value.strip())
        if not equals or _HEADER_NAME.fullmatch(name) is None or not (value.isascii() and value.isprintable()):
            raise ValueError("must be headers separated by commas, each name=value, a comma in a value written as %2C")
        found[name] = value
    return found


Secret = Annotated[SecretStr, AfterValidator(_one_line)]
Address = Annotated[str, AfterValidator(_address)]
Milliseconds = Annotated[int, Field(ge=1, le=3_600_000)]
Seconds = Annotated[int, Field(ge=1, le=86_400)]


class Settings(BaseSettings):
    """The value of each setting; frozen. Build it with `load_settings`, whose errors name the variable.

    Each field is the variable TALLYGATE_<NAME> and the flag --<name> of `tallygate serve`; its description is the flag's help.
    A secret may be in a file instead: TALLYGATE_<NAME>_FILE.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_ignore_empty=True,
        env_file_encoding="utf-8",
        frozen=True,
        extra="ignore",  # .env may have other programs' variables; `misspelt_variables` finds our own misspelt ones
        hide_input_in_errors=True,
        validate_default=False,
    )

    listen: Address = Field("127.0.0.1:8080", description="Address of the gateway, host:port.")
    console_listen: Address = Field(
        "127.0.0.1:9090", description="Address of the console: /metrics, health, admin. Keep it private."
    )
    upstream_url: Annotated[str, AfterValidator(_upstream_url)] = Field(
        "", description="Base URL of the default upstream, such as https://platform.ai.gloo.com."
    )
    upstream_api_key: Secret = Field(
        SecretStr(""), description="Key sent to the default upstream; empty: the client's own key is passed through."
    )
    redis_url: Secret = Field(
        SecretStr(""),
        description="Redis or Valkey of the limiter, redis://, rediss:// or unix://, redis+sentinel://host,host/service or "
        "redis+cluster://host,host; empty: an embedded Valkey.",
    )
    database_url: Secret = Field(SecretStr(""), description="SQL database of the ledger; empty: SQLite in the data directory.")
    database_read_url: Secret = Field(
        SecretStr(""),
        description="Streaming replica of that PostgreSQL, which then answers the console's questions about the past; empty: none.",
    )
    data_dir: Path = Field(Path("tallygate-data"), description="Directory for what must survive a restart: embedded stores, spool.")
    config_dir: Path | None = Field(None, description="Directory of plans.yaml and its siblings; empty: the shipped configuration.")
    workers: int = Field(1, ge=1, le=256, description="Gateway processes that share the port; about one for each CPU core.")
    admin_token: Secret = Field(
        SecretStr(""), description="Token of the console's admin; empty: one is made and printed at the first start."
    )
    metrics_token: Secret = Field(
        SecretStr(""), description="Token that may read /metrics and nothing else, for Prometheus; beside it the admin token may."
    )
    console_hosts: Annotated[str, AfterValidator(_host_names)] = Field(
        "",
        description="Names, by commas, under which the console is reached: its page, and /metrics without a token; beside loopback "
        "and the listen address.",
    )
    console_url: Annotated[str, AfterValidator(_own_origin)] = Field(
        "",
        description="Address under which people reach the console, such as https://usage.example.com: for links, and with https "
        "for cookies that need it; empty: its own address.",
    )
    upstream_ca_file: Path | None = Field(
        None,
        description="Certificates in PEM of authorities that are trusted beside the system's, for upstreams and every other "
        "server that is called.",
    )
    cors_origins: Annotated[str, AfterValidator(_origins)] = Field(
        "",
        description="Origins, by commas, whose pages may use the gateway from a browser, such as https://app.example.com; "
        "*: all; empty: none.",
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(str.lower)] = Field(
        "info", description="Least severity that is logged: debug, info, warning or error."
    )
    log_format: Annotated[Literal["auto", "text", "json"], BeforeValidator(str.lower)] = Field(
        "auto", description="Lines of the log: text for people, json for programs, or auto: text on a terminal, JSON elsewhere."
    )
    access_log: Annotated[Literal["off", "sampled", "all"], BeforeValidator(str.lower)] = Field(
        "off",
        description="A line in the log for requests of clients: off, sampled (one in access_log_every, and those that failed with "
        "500 or more) or all.",
    )
    access_log_every: int = Field(
        100, ge=1, le=10**6, description="One request in so many is logged, if the access log is sampled."
    )

    otlp_endpoint: Annotated[str, AfterValidator(_collector_url)] = Field(
        "",
        description="Base URL of an OpenTelemetry collector that takes OTLP over HTTP, such as http://127.0.0.1:4318: workers send "
        "it traces and metrics; empty: none. Needs the extra otel.",
    )
    otlp_headers: Annotated[Secret, AfterValidator(_headers)] = Field(
        SecretStr(""),
        description="Headers for the collector, name=value by commas, such as Authorization=Bearer%20...; empty: none.",
    )
    otlp_trace_ratio: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of the requests without a traceparent whose traces are exported; of others callers decide. 0: none.",
    )
    otlp_metrics_seconds: Seconds = Field(60, description="How often a worker sends its metrics to the collector.")

    lease_seconds: int = Field(30, ge=5, le=3600, description="How long a reservation lives without a sign of its worker.")
    checkpoint_seconds: int = Field(5, ge=1, le=600, description="How often a worker renews leases and notes the cost so far.")
    store_deadline_ms: Milliseconds = Field(
        1_000, description="How long the limiter's store may take to answer: then admission falls back and a settlement is spooled."
    )
    header_timeout_seconds: Seconds = Field(10, description="Time for a client to send a request's headers.")
    body_timeout_seconds: Seconds = Field(30, description="Head start of a request's body; after it, the slowest rate applies.")
    body_bytes_per_second_min: int = Field(
        1_024, ge=0, le=10**9, description="Slowest rate of a request's body, averaged over its time after the head start; 0: none."
    )
    idle_timeout_seconds: Seconds = Field(75, description="How long an idle client connection is kept open.")
    socket_idle_seconds: int = Field(
        900, ge=1, le=86_400, description="How long a WebSocket may be silent without a response under way before it is closed."
    )
    write_timeout_seconds: Seconds = Field(
        60, description="How long a client may take nothing of its answer before it is given up."
    )
    drain_delay_seconds: int = Field(
        0, ge=0, le=3600, description="After SIGTERM, how long to serve on while /readyz says no, for load balancers to notice."
    )
    drain_seconds: int = Field(30, ge=0, le=3600, description="Grace for open requests after SIGTERM.")
    oauth_timeout_ms: Milliseconds = Field(
        10_000, description="Time for one attempt to fetch an upstream's OAuth2 token, or the keys of an issuer of signed tokens."
    )

    body_bytes_max: int = Field(  # Anthropic takes 32 MB (API overview, "Request size limits")
        32_000_000,
        ge=1,
        le=2**31 - 1,
        description="Largest request body that is read before it is forwarded, once decoded; past it 413. "
        "One that streams through: 2 GB.",
    )
    header_bytes_max: int = Field(32_768, ge=1_024, le=2**20, description="Largest request head; past it 431.")
    connections_max: int = Field(
        10_000,
        ge=1,
        le=10**6,
        description="Client connections of one worker, and no more than half its descriptors; "
        "past it one without a request is closed for the next.",
    )
    requests_open_max: int = Field(
        5_000,
        ge=1,
        le=10**6,
        description="Requests of one worker in progress; past it, or past an organization's share of it, 503 with Retry-After.",
    )
    body_budget_bytes: int = Field(
        0,
        ge=0,
        le=2**40,
        description="Bytes of request bodies under way at one worker; past an organization's share of it 503. "
        "0: an eighth of the machine's memory, divided by the workers.",
    )
    tokenizer_thread_bytes: int = Field(
        20_000,
        ge=0,
        le=10**8,
        description="Texts of a request or an answer with more characters than this in all are tokenised in a thread, "
        "off the event loop.",
    )
    directory_snapshot_seconds_max: int = Field(
        86_400,
        ge=0,
        le=30 * 86_400,
        description="Age up to which a worker that starts while the database is away serves organizations from the snapshot in the "
        "data directory, in which a key that was revoked since is still known; 0: none is written or used.",
    )
    spool_bytes_max: int = Field(
        100_000_000,
        ge=10_000,
        le=2**40,
        description="Bytes of settlements that a worker keeps on disk while the store is away; past it requests are refused.",
    )
    spool_heir_seconds: int = Field(
        120,
        ge=1,
        le=86_400,
        description="How long the store must have answered until the ledger settles what a gateway that is away has spooled.",
    )
    stream_bytes_max: int = Field(
        2_000_000_000,
        ge=1_000_000,
        description="Bytes of usage that wait in the store for the ledger, at most half its maxmemory; then requests are refused.",
    )
    spend_fail_policy: Literal["refuse", "grace"] = Field(
        "refuse",
        description="Spend limits while the store is away: refuse (503), or allow spend_grace_usd per organization, worker "
        "and hour.",
    )
    spend_grace_usd: Annotated[str, AfterValidator(_usd)] = Field(
        "1", description="What an organization may spend at each worker in an hour while the store is away, if the policy is grace."
    )

    @model_validator(mode="after")
    def _agree(self) -> "Settings":
        if self.checkpoint_seconds * 2 > self.lease_seconds:
            raise ValueError(
                "TALLYGATE_LEASE_SECONDS must be at least twice TALLYGATE_CHECKPOINT_SECONDS: one lost renewal is normal"
            )
        if self.listen == self.console_listen:
            raise ValueError("TALLYGATE_CONSOLE_LISTEN must differ from TALLYGATE_LISTEN: the console is not for clients")
        return self

    @property
    def console_host_names(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.console_hosts.split(",") if name.strip())

    @property
    def cors_origin_names(self) -> frozenset[str]:
        return frozenset(name for name in self.cors_origins.split(",") if name)

    @property
    def otlp_header_fields(self) -> dict[str, str]:
        return header_fields(self.otlp_headers.get_secret_value())

    @property
    def spend_grace_nano_usd(self) -> int:
        return nano_usd_from_usd(self.spend_grace_usd)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # a fixed signature; one file for each secret is ours
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The order of sources: flags, variables, secret files, `.env`."""
        return (init_settings, env_settings, _SecretFiles(settings_cls), dotenv_settings)


class _SecretFiles(PydanticBaseSettingsSource):
    """TALLYGATE_<NAME>_FILE: a file that holds the secret, as container platforms mount them."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002  # a fixed signature
        variable = variable_name(field_name)
        path = os.environ.get(f"{variable}_FILE")
        if not path:
            return None, field_name, False
        if os.environ.get(variable):
            raise ConfigError((f"{variable} and {variable}_FILE are both set: keep one",))
        try:
            return read_secret_file(Path(path)), field_name, False
        except ValueError as error:
            raise ConfigError((f"{variable}_FILE {error}",)) from error

    def __call__(self) -> dict[str, Any]:
        found = {}
        for name in secret_fields():
            value, _, _ = self.get_field_value(Settings.model_fields[name], name)
            if value is not None:
                found[name] = value
        return found


def load_settings(flags: Mapping[str, object] | None = None) -> Settings:
    """Read every source; flags, by field name, take precedence. Raises ConfigError with one line for each wrong variable."""
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]  # pydantic checks the types
    except ValidationError as error:
        raise ConfigError(tuple(_problem(detail) for detail in error.errors())) from None


def _problem(detail: ErrorDetails) -> str:
    """One line that names the variable, the mistake and the fix. Only numbers are quoted, since text may contain a secret."""
    context = detail.get("ctx", {})
    kind = detail["type"]
    if not detail["loc"]:  # a rule that relates settings names them itself
        return str(context.get("error", detail["msg"]))
    got = f", got {detail['input']}" if isinstance(detail["input"], int) or str(detail["input"]).lstrip("-").isdecimal() else ""
    match kind:
        case "greater_than_equal":
            text = f"must be at least {context['ge']}{got}"
        case "less_than_equal":
            text = f"must be at most {context['le']}{got}"
        case "int_parsing" | "int_type" | "int_from_float":
            text = "must be an integer"
        case "literal_error":
            text = f"must be one of {context['expected']}"
        case "value_error":
            text = str(context["error"])
        case _:
            text = detail["msg"]
    return f"{variable_name(str(detail['loc'][0]))} {text}"


def variable_name(field: str) -> str:
    return f"{PREFIX}{field.upper()}"


def flag_name(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def secret_fields() -> tuple[str, ...]:
    return tuple(name for name, field in Settings.model_fields.items() if field.annotation is SecretStr)


def secrets_on_command_line(flags: Mapping[str, object]) -> tuple[str, ...]:
    """A warning for each secret among the flags: every user of the machine sees the arguments of its processes.

    Addresses of stores are secret only if they contain a password.
    """
    found = []
    for name in secret_fields():
        value = flags.get(name)
        if value and not (name.endswith("_url") and "@" not in str(value)):
            variable = variable_name(name)
            found.append(f"{flag_name(name)} can be read by every user of this machine: use {variable} or {variable}_FILE")
    return tuple(found)


def misspelt_variables(environ: Mapping[str, str]) -> tuple[str, ...]:
    """TALLYGATE_* variables that are no setting, each with the nearest one. Only for a warning, since others set variables too."""
    known = {variable_name(name) for name in Settings.model_fields} | {f"{variable_name(name)}_FILE" for name in secret_fields()}
    known |= {URL_VARIABLE, TOKEN_VARIABLE}
    return tuple(
        f"{name} is not a setting{nearest(name, known)}"
        for name in sorted(environ)
        if name.startswith(PREFIX) and name not in known and not _FOREIGN.fullmatch(name)
    )
