"""`tallygate from-litellm`: teams, keys and budgets of a LiteLLM proxy, as a file for `tallygate apply`.

LiteLLM keeps the SHA-256 of each key (`hash_token` in litellm/proxy/utils.py, litellm 1.110.2), as tallygate does, so that callers
keep their keys.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click
import yaml

from tallygate.commands.output_file import output_file

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_NOT_IN_IDS: Final = re.compile(r"[^A-Za-z0-9._-]+")
_ID_CHARS_MAX: Final = 64
# Budget durations (docs.litellm.ai, "Budgets, Rate Limits"); a month is a month of the organization here.
_DURATION: Final = re.compile(r"(\d+)(mo|[smhd])")
_MINUTE: Final = "1m"
# In place of names: all models of the team, or of the proxy.
_EVERY_MODEL: Final = frozenset({"all-team-models", "all-proxy-models", "*"})
_NOT_CONVERTED: Final = ("model_max_budget", "budget_limits", "soft_budget", "aliases", "permissions", "allowed_routes", "policies")


@click.command("from-litellm", short_help="Convert keys and budgets of a LiteLLM proxy, for `apply`.")
@click.argument("keys", type=click.File("rb"))
@click.option("--teams", type=click.File("rb"), help="Answer of GET /team/list. Without it, teams have their ids as names.")
@click.option("--plan", default="pay_as_you_go", show_default=True, help="Plan of every organization.")
@click.option("--teamless", default="litellm", show_default=True, help="Id of the organization of keys without a team.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write; default: standard output.")
def from_litellm(*, keys: Any, teams: Any, plan: str, teamless: str, output: Path | None) -> None:
    """Write the organizations of KEYS, answers of GET /key/list?return_full_object=true one after another (`-`: standard input).

    A team becomes an organization, a key a credential, with models, expiry, rate limits and budgets. Callers keep their keys.
    What has no equal here is named on standard error, and left out.
    """
    notes: list[str] = []
    known = [] if teams is None else _teams_of(_documents(teams))
    found = converted(_keys_of(_documents(keys)), known, plan=plan, teamless=teamless, notes=notes)
    text = yaml.safe_dump({"organizations": found}, sort_keys=False, allow_unicode=True, width=120)
    with output_file(output) as file:
        file.write(text.encode())
    for note in notes:
        click.echo(f"note: {note}", err=True)
    credentials = sum(len(organization["credentials"]) for organization in found)
    click.echo(f"{len(found)} organizations, {credentials} credentials. Next: tallygate apply FILE --dry-run", err=True)


def converted(
    keys: list[Mapping[str, Any]], teams: list[Mapping[str, Any]], *, plan: str, teamless: str, notes: list[str]
) -> list[dict[str, Any]]:
    """Entries of organizations.yaml. notes: gets what was left out, a sentence each."""
    by_id = {str(team.get("team_id")): team for team in teams}
    names, organizations = _Names(), dict[str, dict[str, Any]]()
    client_ids = _Names()
    for key in sorted(keys, key=lambda key: (str(key.get("team_id") or ""), str(key.get("key_alias") or key.get("token") or ""))):
        digest = str(key.get("token") or "")
        alias = key.get("key_alias") or key.get("key_name") or digest[:12]
        if _SHA256.fullmatch(digest) is None:
            notes.append(f"key {alias}: its `token` is no SHA-256 digest; ask for return_full_object=true")
            continue
        team_id = str(key.get("team_id") or "")
        if team_id not in organizations:
            team = by_id.get(team_id, {})
            name = str(team.get("team_alias") or team_id or teamless)
            own = _limits(team, f"team {name}", notes)
            organizations[team_id] = {"id": names.made(name), "name": name, "plan": plan, **own, "credentials": []}
        organizations[team_id]["credentials"].append(_credential(key, client_ids.made(str(alias)), str(alias), notes))
    return list(organizations.values())


def _credential(key: Mapping[str, Any], client_id: str, alias: str, notes: list[str]) -> dict[str, Any]:
    models = [model for model in key.get("models") or () if model not in _EVERY_MODEL]
    made = {"id": client_id, "name": alias, "key_sha256": key["token"], **_limits(key, f"key {alias}", notes)}
    if models and len(models) == len(key["models"]):
        made["models"] = models
    if key.get("expires"):
        made["expires"] = _instant(str(key["expires"]))
    if key.get("blocked"):
        made["enabled"] = False
    return made


def _limits(given: Mapping[str, Any], whose: str, notes: list[str]) -> dict[str, Any]:
    """The own limits of a team or key: requests and tokens a minute, requests at once, and the budget."""
    rates = [
        limit
        for name, limit in (
            ("rpm_limit", {"requests": given.get("rpm_limit"), "window": _MINUTE}),
            ("tpm_limit", {"tokens": given.get("tpm_limit"), "window": _MINUTE}),
            ("max_parallel_requests", {"open_requests": given.get("max_parallel_requests")}),
        )
        if given.get(name) is not None
    ]
    made: dict[str, Any] = {"rate_limits": rates} if rates else {}
    if given.get("max_budget") is not None:
        window = _window(str(given.get("budget_duration") or ""))
        if window is None:
            duration = given.get("budget_duration")
            no_window = "it has no duration, and limits here are of a window"
            reason = f"the duration {duration!r} is not known" if duration else no_window
            notes.append(f"{whose}: its budget of ${given['max_budget']} is left out: {reason}")
        else:
            made["spend_limits"] = [{"usd": _usd(given["max_budget"]), "window": window}]
    notes += [f"{whose}: `{name}` is left out" for name in _NOT_CONVERTED if given.get(name)]
    return made


def _window(duration: str) -> str | None:
    match = _DURATION.fullmatch(duration)
    if match is None:
        return None
    if match[2] == "mo":
        return "month" if match[1] == "1" else None
    return duration


def _usd(number: float) -> str:
    """A decimal without an exponent, as exact as LiteLLM's own number is."""
    return f"{number:.9f}".rstrip("0").rstrip(".") or "0"


def _instant(text: str) -> str:
    """RFC 3339: what LiteLLM leaves without a zone is UTC."""
    return text if re.search(r"(Z|[+-]\d\d:?\d\d)$", text) else f"{text}Z"


class _Names:
    """Ids made of names, each once."""

    def __init__(self) -> None:
        self._made: set[str] = set()

    def made(self, name: str) -> str:
        plain = _NOT_IN_IDS.sub("-", name).strip("-._")[:_ID_CHARS_MAX] or "unnamed"
        found, number = plain, 1
        while found in self._made:
            number += 1
            found = f"{plain[: _ID_CHARS_MAX - len(str(number)) - 1]}-{number}"
        self._made.add(found)
        return found


def _documents(file: Any) -> Iterator[Any]:
    """The JSON documents of a file, one after another. Raises click.ClickException."""
    text, decoder, at = file.read().decode(errors="replace"), json.JSONDecoder(), 0
    while (at := len(text) - len(text[at:].lstrip())) < len(text):
        try:
            found, at = decoder.raw_decode(text, at)
        except ValueError as error:
            raise click.ClickException(f"{getattr(file, 'name', 'standard input')} is not JSON: {error}") from None
        yield found


def _keys_of(documents: Iterator[Any]) -> list[Mapping[str, Any]]:
    keys = [key for document in documents for key in (document["keys"] if isinstance(document, dict) else document)]
    if not all(isinstance(key, dict) for key in keys):
        raise click.ClickException("the keys are digests alone: ask GET /key/list for return_full_object=true")
    return keys


def _teams_of(documents: Iterator[Any]) -> list[Mapping[str, Any]]:
    teams = [team for document in documents for team in (document["teams"] if isinstance(document, dict) else document)]
    if not all(isinstance(team, dict) for team in teams):
        raise click.ClickException("the teams are not those of GET /team/list")
    return teams
