"""Usage: how many requests and tokens, at what cost, by whom and for what."""

from collections.abc import Callable
from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from grafana.generator import families, look, queries, shell, variables
from grafana.generator.families import Viewed
from grafana.generator.layout import Band, Section, lay_out
from grafana.generator.panels import Panel, as_money, bars, columns, figure, lines, ranking, weeks, words
from grafana.generator.targets import at_the_end, column, over_time

_EXACT: Final = "Exact between the ends of the range."
_BARS: Final = "Exact for each bar, which stands at the start of its interval; the last one is what there is so far."
_FORWARDED: Final = "Requests that were forwarded, however they ended; refused ones are not among them."
_WEEKS: Final = (
    "Exact for each week, which begins on the Monday that stands at its bar, in your browser's zone; the last one is what there "
    "is so far. If the dashboard's range has a fixed start, its weeks instead of the last twelve."
)
_STEP: Final = "$bars"
_DAY: Final = "1d"
_VIEW: Final = "${view:text}"
_WORDS: Final = """
**API requests** are requests that were forwarded to a provider, however it answered; **Refused** are those that a limit, a key or
a rule stopped before. **Prompt tokens** include what the provider read from its cache, **completion tokens** include reasoning.
**Cost** is what was settled, by your price list, to the nano-dollar; what a late settlement took back is subtracted.

Sums and bars are differences of counters that never reset, so they are **exact**, not extrapolated, and agree with the ledger.
Lines *per second* are Prometheus' rates. What happened before Prometheus' first scrape counts into the range that holds it. Days
and weeks, which begin on Mondays, are those of your browser: for an organization's own days and months open **Invoice**, which also
has cost by credential and model.

*Plans*: `free` has no API access (every request is refused), `pay_as_you_go` has rate limits and a rolling 7-day spend limit,
`enterprise` has rates by agreement. Credentials are shown by their Client ID; callers without a known key are `other`.
"""


def usage() -> Dashboard:
    made = shell.dashboard(
        shell.USAGE,
        "tallygate / Usage",
        "Requests, tokens and cost by organization, credential, capability, model and status.",
    )
    made = shell.with_ranges(made, shell.USAGE).annotation(shell.pauses())
    for variable in (
        variables.metrics_choice(),
        variables.organizations(),
        variables.credentials(),
        variables.capabilities(),
        variables.models(),
        variables.choice(
            "view",
            "View",
            {"API requests": "requests", "Tokens": "tokens", "Cost (USD)": "spend"},
            "What the bars and rankings count",
            first="API requests",
        ),
        variables.choice("bars", "Bars", {"1 hour": "1h", "1 day": "1d"}, "Interval of each bar", first="1 day"),
        variables.top(),
    ):
        made = made.with_variable(variable)
    return lay_out(made, _sections())


def _sections() -> list[Section]:
    return [
        Section(bands=[Band(panels=_figures(), height=4), Band(panels=_over_time(), height=8)]),
        Section(title=f"Broken down: {_VIEW}", bands=[Band(panels=_broken_down(), height=9)]),
        Section(title="By week, from Monday", bands=[Band(panels=_by_week(), height=8)]),
        Section(title="Who", bands=[Band(panels=[_organizations(), _credentials()], height=10, widths=[8, 16])]),
        Section(title="Tokens and rates", bands=[Band(panels=_details(), height=8), Band(panels=_token_parts(), height=4)]),
        Section(title="What these numbers mean", bands=[Band(panels=[words("", _WORDS)], height=8)]),
    ]


def _figures() -> list[Panel]:
    def sum_of(title: str, description: str, series: tuple[str, str], unit: str = look.EACH) -> Panel:
        total = queries.or_zero(queries.net_total_by("", *series))
        return figure(title, f"{description} {_EXACT}", at_the_end(total), unit=unit)

    return [
        figure("API requests", f"{_FORWARDED} {_EXACT}", at_the_end(queries.total_by("", families.served()))),
        sum_of("Prompt tokens", "Tokens sent to models, cached ones included.", families.tokens('kind="prompt"')),
        sum_of("Completion tokens", "Tokens that models generated, reasoning included.", families.tokens('kind="completion"')),
        sum_of("Total tokens", "Prompt and completion.", families.tokens()),
        sum_of("Cost", "Settled cost, less what was taken back.", families.spend(), look.USD),
        figure(
            "Refused",
            f"Requests stopped by a limit, a key or a rule before they reached a provider; they cost nothing. {_EXACT}",
            at_the_end(queries.or_zero(queries.total_by("", families.requests('outcome="refused"')))),
            colours=look.steps((1, look.YELLOW), base=look.BLUE),
        ),
    ]


def _over_time() -> list[Panel]:
    def by_capability(which: Viewed) -> Dataquery:
        return over_time(queries.net_bars_by("capability", *families.viewed(which)), "{{capability}}", step=_STEP)

    by_status = queries.bars_by("outcome", families.requests())
    return [
        as_money(bars(f"{_VIEW} by capability, over time", f"{_FORWARDED} {_BARS}", *_counts_and_money(by_capability), step=_STEP)),
        bars(
            "API requests by status, over time",
            f"How requests ended, refused ones included. {_BARS}",
            over_time(by_status, "{{outcome}}", step=_STEP),
            step=_STEP,
        ),
    ]


def _by_week() -> list[Panel]:
    def by_capability(which: Viewed) -> Dataquery:
        return over_time(queries.net_weeks_by("capability", *families.viewed(which)), "{{capability}}", step=_DAY)

    by_status = queries.weeks_by("outcome", families.requests())
    return [
        as_money(weeks(f"{_VIEW} by capability, by week", f"{_FORWARDED} {_WEEKS}", *_counts_and_money(by_capability))),
        weeks(
            "API requests by status, by week",
            f"How requests ended, refused ones included. {_WEEKS}",
            over_time(by_status, "{{outcome}}", step=_DAY),
        ),
    ]


def _counts_and_money(query: Callable[[Viewed], Dataquery]) -> tuple[Dataquery, Dataquery]:
    return query(Viewed.COUNTS), query(Viewed.MONEY)


def _broken_down() -> list[Panel]:
    def by_capability(which: Viewed) -> Dataquery:
        return at_the_end(queries.top("$top", queries.net_total_by("capability", *families.viewed(which))), "{{capability}}")

    def by_model(which: Viewed) -> Dataquery:
        return at_the_end(queries.top("$top", queries.net_total_by("model", *families.viewed_by_model(which))), "{{model}}")

    by_status = queries.total_by("outcome", families.requests())
    return [
        as_money(ranking(f"{_VIEW} by capability", f"Kinds of service. {_EXACT}", *_counts_and_money(by_capability))),
        as_money(
            ranking(
                f"{_VIEW} by model",
                "Models of the price catalogue; any other is `other`. Of the organizations chosen, whichever credential and "
                f"capability: these are not told by model. {_EXACT}",
                *_counts_and_money(by_model),
            )
        ),
        ranking(
            "API requests by status",
            f"How requests ended, refused ones included. {_EXACT}",
            at_the_end(by_status, "{{outcome}}"),
        ),
    ]


def _organizations() -> Panel:
    def by_org(which: Viewed) -> Dataquery:
        return at_the_end(queries.top("$top", queries.net_total_by("org", *families.viewed(which))), "{{org}}")

    panel = ranking(
        f"Top organizations: {_VIEW}",
        f"{_EXACT} Click for the organization's spend and limits.",
        *_counts_and_money(by_org),
    )
    return as_money(panel).data_links([shell.to_dashboard(shell.SPEND, "Spend and limits", organization="${__field.labels.org}")])


def _credentials() -> Panel:
    """The leaders by what is viewed, with all their sums."""
    by = "org, credential"
    leaders = queries.top("$top", queries.net_total_by(by, *families.viewed()))
    prompt, completion = families.tokens('kind="prompt"'), families.tokens('kind="completion"')
    sums = {
        "API requests": queries.total_by(by, families.served()),
        "Prompt tokens": queries.net_total_by(by, *prompt),
        "Completion tokens": queries.net_total_by(by, *completion),
        "Total tokens": queries.net_total_by(by, *families.tokens()),
        "Cost": queries.net_total_by(by, *families.spend()),
    }
    panel = columns(
        f"Top credentials: {_VIEW}",
        f"All sums of the credentials that lead in the view chosen. {_EXACT}",
        {name: column(f"({total}) and on ({by}) {leaders}") for name, total in sums.items()},
        labels={"org": "Organization", "credential": "Credential"},
        sort_by="Cost",
    )
    link = shell.to_dashboard(
        shell.USAGE,
        "Only this credential",
        organization="${__data.fields.Organization}",
        credential="${__value.text}",
    )
    return panel.override_by_name("Cost", [DynamicConfigValue(id_val="unit", value=look.USD)]).override_by_name(
        "Credential", [DynamicConfigValue(id_val="links", value=[link.build()])]
    )


def _details() -> list[Panel]:
    by_kind = queries.net_bars_by("kind", *families.tokens())
    return [
        bars("Tokens by kind", f"Prompt and completion tokens. {_BARS}", over_time(by_kind, "{{kind}}", step=_STEP), step=_STEP),
        lines(
            "Requests per second by capability",
            "Forwarded requests. A rate, so it is extrapolated by Prometheus.",
            over_time(queries.rate_by("capability", families.served()), "{{capability}}"),
            unit=look.PER_SECOND,
            stacked=True,
        ),
    ]


def _token_parts() -> list[Panel]:
    cached = queries.net_total_by("", *families.part_of_tokens("cached"))
    reasoning = queries.net_total_by("", *families.part_of_tokens("reasoning"))
    prompt = queries.net_total_by("", *families.tokens('kind="prompt"'))
    completion = queries.net_total_by("", *families.tokens('kind="completion"'))
    return [
        figure("Cached tokens", f"Prompt tokens that providers read from their cache. {_EXACT}", at_the_end(cached)).no_value(
            "No cached tokens in this range"
        ),
        figure(
            "Share of prompts from cache",
            "Cached tokens, of all prompt tokens in the range.",
            at_the_end(f"({cached}) / ({prompt} > 0)"),
            unit=look.SHARE,
        ).no_value("No prompts in this range"),
        figure("Reasoning tokens", f"Completion tokens spent on reasoning. {_EXACT}", at_the_end(reasoning)).no_value(
            "No reasoning in this range"
        ),
        figure(
            "Share of reasoning",
            "Reasoning tokens, of all completion tokens in the range.",
            at_the_end(f"({reasoning}) / ({completion} > 0)"),
            unit=look.SHARE,
        ).no_value("No completions in this range"),
    ]
