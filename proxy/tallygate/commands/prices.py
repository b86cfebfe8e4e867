"""`tallygate prices`: what a model costs, and list prices compared with another source and updated from it."""

import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.markup import escape
from rich.table import Table

from tallygate.commands.apply import EX_DIFFERENCE
from tallygate.commands.output_console import output_console
from tallygate.commands.settings_options import friendly

if TYPE_CHECKING:
    from tallygate.config.catalogue import PriceCatalogue
    from tallygate.config.price_differences import Difference, Reviewed
    from tallygate.config.price_source import SourceModel
    from tallygate.domain.price import Price

_CONFIG_DIR: Final = click.option("--config-dir", type=click.Path(path_type=Path), help="As of serve.")
_FROM: Final = click.option(
    "--from", "source", metavar="FILE|URL", help="genai-prices data as JSON.  [default: the installed package genai-prices]"
)
_PROVIDER: Final = click.option(
    "--provider",
    "providers",
    multiple=True,
    help="Only this provider of the source; repeatable.  [default: those of the shipped list]",
)


@click.group(short_help="Show what models cost; compare and update list prices.")
def prices() -> None:
    """What models cost, and list prices beside those of another source."""


@prices.command("show", short_help="Every row that may price a model.")
@click.argument("model")
@click.option("--at", metavar="TIME", help="A date or a time, such as 2026-01-31T12:00:00Z.  [default: now]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@_CONFIG_DIR
def show(*, model: str, at: str | None, as_json: bool, config_dir: Path | None) -> None:
    """Show the rows for MODEL, best first, each with its layer and rates; the one that applies at the time is marked."""
    at_ms = _instant(at)
    found = _rows(_catalogue(config_dir), model, at_ms)
    if as_json:
        click.echo(json.dumps({"model": model, "at": _time(at_ms), "rows": found}))
    elif found:
        table = Table("Applies", "Layer", "Version", "From", "Rates", box=None, pad_edge=False)
        for row in found:
            rates = "\n".join(f"{name} {figure}" for name, figure in row["rates"].items())
            rules = "\n".join(f"when {_phrase(rule)}" for rule in row["when"])
            text = "\n".join(filter(None, (rates, rules)))
            since = row["from"] or "not known"
            table.add_row("yes" if row["applies"] else "", row["layer"], escape(row["version"]), since, escape(text))
        output_console().print(table)
    if not any(row["applies"] for row in found):
        raise click.ClickException(f"{model} has no price at {_time(at_ms)}")


@prices.command("diff", short_help="What list prices and another source state differently.")
@_FROM
@_PROVIDER
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line instead of a table.")
@_CONFIG_DIR
def diff(*, source: str | None, providers: tuple[str, ...], as_json: bool, config_dir: Path | None) -> None:
    """Compare the list prices (without rows of your own) with the source. Changes nothing."""
    from tallygate.config.price_differences import differences

    listed, now_ms = _listed(_catalogue(config_dir)), _now_ms()
    reviewed = _reviewed()
    found = list(differences(listed, _models(source, providers), now_ms))
    reasons = {each: next((entry.reason for entry in reviewed if entry.covers(each)), "") for each in found}
    if as_json:
        for each in found:
            click.echo(json.dumps({**_fields(each), "reviewed": reasons[each]}))
        return
    _print_differences(found, reasons)


@prices.command("update", short_help="Write list prices that have changed into listed_prices.yaml.")
@_FROM
@_PROVIDER
@click.option(
    "--dry-run", is_flag=True, help=f"Only show what would change. Exit code {EX_DIFFERENCE} if something would, 0 if nothing."
)
@_CONFIG_DIR
def update(*, source: str | None, providers: tuple[str, ...], dry_run: bool, config_dir: Path | None) -> None:
    """Write what the source states otherwise than the shipped list into listed_prices.yaml of the configuration directory.

    Your own prices.yaml is never touched, and overrides it. Reviewed differences are left as they are. Each run writes the whole
    file, without models that no longer differ or that the source no longer has: name all providers that it shall have. Review it,
    then run `tallygate check`.
    """
    from tallygate.commands.price_documents import shown
    from tallygate.config.price_updates import UPDATES_FILE, changes_of, file_text, read_updates, updates_of

    directory = _settings_dir(config_dir)
    if directory is None or not directory.is_dir():
        raise click.ClickException("give the --config-dir that the file belongs in")
    now_ms, shipped = _now_ms(), _shipped()
    found = updates_of(shipped, _models(source, providers), _reviewed(), now_ms=now_ms)
    name = _package_name() if source is None else shown(source)
    text = file_text(found, source=name, reviewed=_time(now_ms)[:10]).encode()
    path = directory / UPDATES_FILE
    with friendly():
        before = path.read_bytes() if path.exists() else b""
        if text == before:
            click.echo(f"{path} is up to date")
            return
        changes = changes_of(read_updates(before), read_updates(text))
    changed = {*changes.added, *changes.changed}
    if changed or not changes.removed:
        _print_differences([each for one in found if one.model in changed for each in one.changes], {})
    for model in changes.removed:
        then = "that of the shipped list applies again" if shipped.find(model, now_ms) else "it is an unknown model then"
        click.echo(f"removed: {model}, for which the source has no other price; {then}")
    summary = f"{len(changes.added)} added, {len(changes.changed)} changed, {len(changes.removed)} removed"
    if dry_run:
        click.echo(f"{summary}; nothing was written")
        sys.exit(EX_DIFFERENCE if changed or changes.removed else 0)
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(text)
    new.replace(path)
    models = f"{len(found)} model{'' if len(found) == 1 else 's'}"
    click.echo(f"{models} in {path} ({summary}); review it, then: tallygate check --config-dir {directory}")


def _rows(catalogue: "PriceCatalogue", model: str, at_ms: int) -> list[dict[str, Any]]:
    from tallygate.config.stated_price import stated_prices

    return [_row(row.price, row.layer.value, applies=row.applies) for row in stated_prices(catalogue, model, at_ms)]


def _row(price: "Price", layer: str, *, applies: bool) -> dict[str, Any]:
    from tallygate.domain.price import UNDATED_MS

    rates = _rates(price.rates)
    for tier in price.tiers:
        rates |= {f"{name} from {tier.from_tokens:,} prompt tokens": figure for name, figure in _rates(tier.rates).items()}
    sizes = {"max_input_tokens": price.max_input_tokens, "max_output_tokens": price.max_output_tokens}
    return {
        "applies": applies,
        "layer": layer,
        "model": price.model,
        "version": price.version,
        "from": None if price.effective_ms == UNDATED_MS else _time(price.effective_ms),
        "rates": rates,
        "when": [_rule(rule) for rule in price.rules],
        **{name: size for name, size in sizes.items() if size is not None},
    }


def _rule(rule: Any) -> dict[str, Any]:
    from tallygate.config.price_row import days_text, hours_text

    members = {name: value for name in ("service_tier", "speed", "geography") if (value := getattr(rule, name)) is not None}
    if rule.utc_minutes is not None:
        members["utc_hours"] = hours_text(rule.utc_minutes)
    if rule.utc_days is not None:
        members["utc_days"] = days_text(rule.utc_days)
    if not rule.rates:
        return {**members, "times": f"{rule.factor / 1_000_000:g}"}
    rates = _rates(rule.rates)
    for tier in rule.tiers:
        rates |= {f"{name} from {tier.from_tokens:,} prompt tokens": figure for name, figure in _rates(tier.rates).items()}
    return {**members, "rates": rates}


def _phrase(rule: dict[str, Any]) -> str:
    condition = ", ".join(f"{name} {value}" for name, value in rule.items() if name not in {"times", "rates"}) or "by this name"
    stated = (
        f"times {rule['times']}" if "times" in rule else ", ".join(f"{name} {figure}" for name, figure in rule["rates"].items())
    )
    return f"{condition}: {stated}"


def _rates(rates: Any) -> dict[str, str]:
    """Figures in USD with what they are of, such as "0.15 per million tokens"."""
    from tallygate.domain.money import rate_text
    from tallygate.domain.unit_words import per_words, units_per_rate

    return {str(name): f"{rate_text(rate, units_per_rate(name))} per {per_words(name)}" for name, rate in rates.items()}


def _print_differences(found: "list[Difference]", reasons: "dict[Difference, str]") -> None:
    console = output_console()
    if not found:
        console.print("nothing differs")
        return
    table = Table("Provider", "Model", "What", "Listed", "Source", *(["Reviewed"] if reasons else []), box=None, pad_edge=False)
    for each in found:
        cells = (each.provider, each.model, each.what, each.here or "-", each.there or "-")
        table.add_row(*(escape(cell) for cell in cells), *([escape(reasons[each])] if reasons else []))
    console.print(table)


def _fields(each: "Difference") -> dict[str, str]:
    return {"provider": each.provider, "model": each.model, "what": each.what, "listed": each.here, "source": each.there}


def _models(source: str | None, providers: tuple[str, ...]) -> "tuple[SourceModel, ...]":
    from tallygate.commands.price_documents import read_prices_of, shown
    from tallygate.config.price_source import SourceError, models_of, packaged
    from tallygate.config.price_updates import PROVIDERS

    with friendly():
        try:
            document = packaged() if source is None else read_prices_of(source)
            models = models_of(document, providers)
        except SourceError as error:
            raise click.ClickException(f"{'genai-prices' if source is None else shown(source)}: {error}") from error
    return models if providers else tuple(model for model in models if model.provider in PROVIDERS)


def _package_name() -> str:
    from importlib.metadata import version

    return f"genai-prices {version('genai-prices')}"


def _reviewed() -> "tuple[Reviewed, ...]":
    from tallygate.config.document import read_document
    from tallygate.config.price_differences import read_reviewed
    from tallygate.config.problems import Problems
    from tallygate.config.shipped import shipped_directory

    path = shipped_directory() / "price_differences.yaml"
    document = read_document(path.name, path.read_bytes(), Problems())
    return () if document is None else read_reviewed(document)[0]


def _settings_dir(config_dir: Path | None) -> Path | None:
    from tallygate.commands.chosen_settings import chosen_settings

    with friendly():
        return chosen_settings({"config_dir": config_dir}, uses_stores=False).config_dir


def _catalogue(config_dir: Path | None) -> "PriceCatalogue":
    from tallygate.app.configuration import config_source
    from tallygate.commands.chosen_settings import chosen_settings

    with friendly():
        settings = chosen_settings({"config_dir": config_dir}, uses_stores=False)
        return config_source(settings, os.environ, forwards=False, sends_webhooks=False).load().prices


def _listed(catalogue: "PriceCatalogue") -> "PriceCatalogue":
    return catalogue if catalogue.listed is None else catalogue.listed


def _shipped() -> "PriceCatalogue":
    from tallygate.config.catalogue import PriceCatalogue
    from tallygate.config.shipped import shipped_directory, shipped_tables

    return shipped_tables(shipped_directory(), {}).list_prices or PriceCatalogue(())


def _instant(text: str | None) -> int:
    from tallygate.config.section import instant_ms

    try:
        return _now_ms() if text is None else instant_ms(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--at") from error


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
