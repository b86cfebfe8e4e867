"""`tallygate init`: a small commented configuration directory for one AI API, ready to serve."""

import json
import re
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click

from tallygate.commands.schema import SCHEMAS_DIRECTORY, modeline, schema_texts, write_schemas

_CLIENT_ID: Final = "acme-prod"  # of config/starters/organizations.yaml
_KEY_PLACE: Final = "KEY_SHA256"
_HELLO: Final = [{"role": "user", "content": "Say hello."}]


@dataclass(frozen=True, slots=True, kw_only=True)
class Starter:
    """The facts about an AI API that its files in config/starters lack: a first request to it.

    has_own_address   the operator must give its address: the file's is an example
    """

    name: str
    path: str
    body: Mapping[str, object]
    headers: tuple[str, ...] = field(default=())
    has_own_address: bool = False


STARTERS: Final[Mapping[str, Starter]] = {
    "gloo": Starter(
        name="Gloo AI",
        path="/ai/v2/guarded/chat/completions",
        body={"auto_routing": True, "max_tokens": 200, "messages": _HELLO},
    ),
    "openai": Starter(
        name="OpenAI", path="/v1/chat/completions", body={"model": "gpt-4o-mini", "max_tokens": 200, "messages": _HELLO}
    ),
    "anthropic": Starter(
        name="Anthropic",
        path="/v1/messages",
        body={"model": "claude-haiku-4-5", "max_tokens": 200, "messages": _HELLO},
        headers=("anthropic-version: 2023-06-01",),  # required: platform.claude.com/docs/en/api/versioning
    ),
    "gemini": Starter(
        name="Gemini",
        path="/v1beta/models/gemini-2.5-flash:generateContent",
        body={"contents": [{"role": "user", "parts": [{"text": "Say hello."}]}]},
    ),
    "openai-compatible": Starter(
        name="your server",
        path="/v1/chat/completions",
        body={"model": "YOUR-MODEL", "max_tokens": 200, "messages": _HELLO},
        has_own_address=True,
    ),
}


@click.command(short_help="Write a configuration directory for an AI API, ready to serve.")
@click.argument("api", type=click.Choice(tuple(STARTERS)))
@click.option(
    "--config-dir", default=Path("config"), show_default=True, type=click.Path(path_type=Path), help="Directory to write to."
)
@click.option("--base-url", metavar="URL", help="Address of the API.  [default: its public one; openai-compatible: an example]")
def init(api: str, config_dir: Path, base_url: str | None) -> None:
    """Write a small commented configuration directory for an AI API, ready to serve.

    With one example organization, whose new key is shown once. Nothing that exists is overwritten. The API's own key is not asked
    for: the files name the variable that it is read from.
    """
    from tallygate.config.directory import generate_key

    address = None if base_url is None else _address(base_url)
    issued = generate_key(_CLIENT_ID, secrets.token_bytes)
    files = _files(api, key_sha256=issued.key_sha256.hex(), address=address)
    _write(config_dir, files)
    write_schemas(config_dir / SCHEMAS_DIRECTORY, schema_texts())
    click.echo(f"Written to {config_dir}: {', '.join(files)}\n")
    click.echo(f"The key of {_CLIENT_ID}, shown this once (organizations.yaml keeps its digest):\n\n{issued.api_key}\n")
    click.echo(_next_commands(api, config_dir, files, has_address=address is not None))


def _address(text: str) -> str:
    """The base URL without the version at its end, which SDKs expect there but routes have in their paths."""
    from tallygate.config.urls import http_url

    try:
        return re.sub(r"/v1(beta)?$", "", http_url(text))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--base-url") from None


def _files(api: str, *, key_sha256: str, address: str | None) -> dict[str, str]:
    """The texts to write, by file name."""
    from tallygate.config.shipped import shipped_directory

    starters = shipped_directory() / "starters"
    found = {path.name: path.read_text(encoding="utf-8") for path in sorted((starters / api).glob("*.yaml"), reverse=True)}
    if address is not None:
        found["upstreams.yaml"] = re.sub(r"base_url: \S+", lambda _: f"base_url: {address}", found["upstreams.yaml"], count=1)
    organizations = (starters / "organizations.yaml").read_text(encoding="utf-8")
    found["organizations.yaml"] = organizations.replace(_KEY_PLACE, key_sha256)
    return {name: modeline(name) + text for name, text in found.items()}


def _write(directory: Path, files: Mapping[str, str]) -> None:
    """Write all files or none. Raises click.ClickException, also if the directory has any configuration: two would be mixed."""
    from tallygate.config.load import CONFIG_FILES

    written: list[Path] = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        there = sorted(path.name for path in directory.iterdir() if path.name in CONFIG_FILES)
        if there:
            raise click.ClickException(
                f"{directory} has {', '.join(there)} already, and nothing is overwritten: name another directory with --config-dir"
            )
        for name, text in files.items():
            with (directory / name).open("x", encoding="utf-8") as file:
                written.append(directory / name)
                file.write(text)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise click.ClickException(f"cannot write {error.filename or directory}: {error.strerror}") from error


def _next_commands(api: str, directory: Path, files: Mapping[str, str], *, has_address: bool) -> str:
    """The next commands to type. No secret is an argument: `read -s` reads it from the terminal, curl its header from stdin."""
    import yaml

    from tallygate.config.shipped import shipped_directory

    starter = STARTERS[api]
    variable = yaml.safe_load(files["upstreams.yaml"])["upstreams"]["default"]["auth"]["secret_env"]
    option = f"--config-dir {shlex.quote(str(directory))}"
    headers = "".join(f" -H {shlex.quote(header)}" for header in ("Content-Type: application/json", *starter.headers))
    lines = [
        "Next, in bash or zsh:",
        f"  read -rs {variable} && export {variable}    # paste the key for {starter.name}; it is not shown",
        f"  tallygate check {option}",
        f"  tallygate serve {option}",
        "and in another terminal, a first request and what it cost:",
        "  read -rs ACME_KEY    # paste the key above",
        f'  curl -H @- <<< "Authorization: Bearer $ACME_KEY"{headers} http://127.0.0.1:8080{starter.path} \\',
        f"    -d {shlex.quote(json.dumps(starter.body))}",
        f"  tallygate usage --by model {option}",
        "",
        f"Routes, prices and what else is not in {directory} are the shipped ones. To change one, copy its file from",
        f"  {shipped_directory()}",
    ]
    if starter.has_own_address and not has_address:
        lines.insert(0, f"First write the address of your server into {directory / 'upstreams.yaml'}: base_url is an example.\n")
    return "\n".join(lines)
