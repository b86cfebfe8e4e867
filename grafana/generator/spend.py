"""Spend and limits: how near each organization is to its limit, when it gets there, and who is paused until when."""

from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models.common import BigValueTextMode
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue, ValueMap, ValueMappingResult

from grafana.generator import families, look, queries, shell, variables
from grafana.generator.layout import Band, Section, lay_out
from grafana.generator.panels import Panel, bars, columns, figure, lines, ranking, states, weeks, words
from grafana.generator.queries import one, select
from grafana.generator.targets import at_the_end, column, over_time

_ORG: Final = families.ORGANIZATION
_USED: Final = select("org:tallygate_spend_used:ratio", _ORG)
_COMMITTED: Final = select("org:tallygate_spend_committed:ratio", _ORG)
_BURN: Final = select("org:tallygate_spend_usd:rate1h", _ORG)
_TO_LIMIT: Final = select("org:tallygate_spend_to_limit:seconds", _ORG)
_WINDOW: Final = one(select("tallygate_spend_window_usd", _ORG))
_HELD: Final = one(select("tallygate_spend_held_usd", _ORG))
_LIMIT: Final = one(select("tallygate_spend_limit_usd", _ORG))
_PAUSED: Final = one(select("tallygate_paused", _ORG))
_RESUMES: Final = one(select("tallygate_spend_resume_timestamp_seconds", _ORG))
_OF_SPEND: Final = "org, credential, limit, window, mode"
_OF_RATE: Final = "org, credential, capability, limit, kind, window, mode"
_SPEND_USED: Final = select("org_credential_limit_window_mode:tallygate_spend_limit_used:ratio", _ORG)
_RATE_USED: Final = select("org_credential_capability_limit_kind_window_mode:tallygate_rate_limit_used:ratio", _ORG)
_REFUSED: Final = select("tallygate_refused_total", _ORG)
_WARNINGS: Final = select("tallygate_spend_warnings_total", _ORG)
_EXACT: Final = "Exact to the nano-dollar."
_RELATIVE: Final = "If the dashboard's range has a fixed start, it is that range instead."
_NO_LIMIT: Final = "No organization with a spend limit"
_LIMIT_TITLES: Final = {"org": "Organization", "credential": "Credential", "limit": "Name"}
_WORDS: Final = """
**Spend** is what was settled within the window of an organization's first spend limit, as enforced now: by default the
trailing 7 days, in steps of 5 minutes; older spend leaves by itself. **Held** is the worst case of requests that are still
open: it counts against the limit until they end, then only what they really cost. A request is refused when spend + held +
its own worst case would pass the limit; access **pauses** until enough has left the window, which is the instant under
**Resumes at**. A smaller request may still pass.

**Every limit** is listed with its name, its window and its mode: an organization's own, and those of each credential. An
organization's first spend limit is the one that the panels above and below them show.

**Time to the limit** is how long the rest lasts at the last hour's rate if nothing left the window. Colours change at 80 %, 95 %
and 100 % of a limit, where warnings are sent too.

*Plans*: `pay_as_you_go` has a rolling 7-day limit of at most 100 USD; `enterprise` has none unless one is set, and then appears
only under costs; `free` cannot spend. Days, weeks (from Monday) and months are those of your browser: invoices are under
**Invoice**.
"""


def spend() -> Dashboard:
    made = shell.dashboard(
        shell.SPEND,
        "tallygate / Spend and limits",
        "Rolling spend against each organization's limit, what is held, who is paused until when.",
    )
    made = shell.with_ranges(made, shell.SPEND).annotation(shell.pauses())
    for variable in (variables.metrics_choice(), variables.organizations(), variables.top()):
        made = made.with_variable(variable)
    return lay_out(made, _sections())


def _sections() -> list[Section]:
    return [
        Section(bands=[Band(panels=_figures(), height=4), Band(panels=[_limits()], height=10)]),
        Section(
            title="Every limit, of organizations and credentials",
            bands=[
                Band(panels=[_every_spend_limit()], height=9),
                Band(panels=[_every_rate_limit()], height=9),
                Band(panels=_used_over_time(), height=8),
            ],
        ),
        Section(title="Towards the limit", bands=[Band(panels=_towards(), height=9), Band(panels=_amounts(), height=8)]),
        Section(title="Pauses and refusals", bands=[Band(panels=_pauses(), height=8)]),
        Section(
            title="Cost",
            bands=[
                Band(panels=_costs(), height=10, widths=[12, 6, 6]),
                Band(panels=[_weekly()], height=9),
                Band(panels=_kinds(), height=9, widths=[16, 8]),
            ],
        ),
        Section(title="What these numbers mean", bands=[Band(panels=[words("", _WORDS)], height=9)]),
    ]


def _figures() -> list[Panel]:
    def cost(title: str, since: str, span: str) -> Panel:
        total = queries.net_total_by("", *families.spend(_ORG))
        description = f"Cost of the organizations chosen, since {since} in your browser's zone. {_EXACT} {_RELATIVE}"
        return figure(title, description, at_the_end(total), unit=look.USD).time_from(span).no_value(look.NO_SPEND)

    return [
        figure(
            "Paused",
            "Organizations among those chosen that a spend limit pauses now.",
            at_the_end(queries.or_zero(f"sum ({_PAUSED})")),
            colours=look.steps((1, look.RED)),
        ).no_value(_NO_LIMIT),
        figure(
            "Nearest to its limit",
            "The highest share of a spend limit that is used, over the organizations chosen.",
            at_the_end(queries.top("1", _USED), "{{org}}"),
            unit=look.SHARE,
            colours=look.of_a_limit(),
        )
        .text_mode(BigValueTextMode.VALUE_AND_NAME)
        .no_value(_NO_LIMIT),
        cost("Cost today", "midnight", "now/d"),
        cost("Cost this week", "the week began", "now/w"),
        cost("Cost this month", "the month began", "now/M"),
        figure(
            "Burn rate per hour",
            "What an hour costs at the last hour's rate, over the organizations chosen. Extrapolated by Prometheus.",
            at_the_end(f"sum ({_BURN}) * 3600"),
            unit=look.USD,
        ).no_value("Nothing was spent in the last hour"),
    ]


def _limits() -> Panel:
    leaders = queries.top("$top", _USED)
    numbers = {
        "Spend in the window": _WINDOW,
        "Held": _HELD,
        "Limit": _LIMIT,
        "Used": _USED,
        "Used and held": _COMMITTED,
        "Burn rate per hour": f"{_BURN} * 3600",
        "Time to the limit": _TO_LIMIT,
        "Access": _PAUSED,
        "Resumes at": f"{_RESUMES} * 1000",
    }
    panel = columns(
        "Organizations nearest to their limits",
        "Of organizations with a spend limit, those that have used the most of it. Spend and held are read from the limiter at "
        "each "
        "scrape; time to the limit is empty where nothing was spent in the last hour.",
        {name: column(f"({number}) and on (org) {leaders}") for name, number in numbers.items()},
        labels={"org": "Organization"},
        sort_by="Used",
    ).no_value(_NO_LIMIT)
    panel = panel.thresholds(look.of_a_limit())
    for name in ("Spend in the window", "Held", "Limit", "Burn rate per hour"):
        panel = panel.override_by_name(name, [DynamicConfigValue(id_val="unit", value=look.USD)])
    for name in ("Used", "Used and held"):
        panel = panel.override_by_name(name, _as_gauge())
    link = shell.to_dashboard(shell.USAGE, "Usage of this organization", organization="${__value.text}")
    return (
        panel.override_by_name("Time to the limit", [DynamicConfigValue(id_val="unit", value=look.SECONDS)])
        .override_by_name("Access", [DynamicConfigValue(id_val="mappings", value=[_access()])])
        .override_by_name("Resumes at", [DynamicConfigValue(id_val="unit", value=look.UNIX_MS)])
        .override_by_name("Organization", [DynamicConfigValue(id_val="links", value=[link.build()])])
    )


def _every_spend_limit() -> Panel:
    leaders = queries.top("$top", _SPEND_USED)
    numbers = {
        "Spend in the window": one(select("tallygate_spend_limit_spent_usd", _ORG)),
        "Held": one(select("tallygate_spend_limit_held_usd", _ORG)),
        "Limit": one(select("tallygate_spend_limit_allowed_usd", _ORG)),
        "Used": _SPEND_USED,
        "Resumes at": f"{one(select('tallygate_spend_limit_resume_timestamp_seconds', _ORG))} * 1000",
    }
    panel = columns(
        "Spend limits",
        "Those of which the most is used: of an organization where no credential stands there, else of the credential. In shadow "
        "mode a limit counts and pauses nobody. A limit of 0 has no share that could be used, and is not here.",
        {name: column(f"({number}) and on ({_OF_SPEND}) {leaders}") for name, number in numbers.items()},
        labels=_LIMIT_TITLES | {"window": "Window", "mode": "Mode"},
        sort_by="Used",
    ).no_value(_NO_LIMIT)
    panel = panel.thresholds(look.of_a_limit())
    for name in ("Spend in the window", "Held", "Limit"):
        panel = panel.override_by_name(name, [DynamicConfigValue(id_val="unit", value=look.USD)])
    panel = panel.override_by_name("Resumes at", [DynamicConfigValue(id_val="unit", value=look.UNIX_MS)])
    return panel.override_by_name("Used", _as_gauge())


def _every_rate_limit() -> Panel:
    leaders = queries.top("$top", _RATE_USED)
    units, remaining, burst = (one(select(f"tallygate_rate_limit_{name}units", _ORG)) for name in ("", "remaining_", "burst_"))
    numbers = {"Units": units, "At once": f"{burst} or {units}", "Left": remaining, "Used": _RATE_USED}
    panel = columns(
        "Rate limits",
        "Those of which the most is used now: requests and tokens of a window, evenly regained, and requests that may be open "
        "at once. What is left is of the units at once.",
        {name: column(f"({number}) and on ({_OF_RATE}) {leaders}") for name, number in numbers.items()},
        labels=_LIMIT_TITLES | {"kind": "Kind", "capability": "Capability", "window": "Window", "mode": "Mode"},
        sort_by="Used",
    ).no_value("No organization with a rate limit")
    return panel.thresholds(look.of_a_limit()).override_by_name("Used", _as_gauge())


def _used_over_time() -> list[Panel]:
    credentials = select("org_credential_limit_window_mode:tallygate_spend_limit_used:ratio", _ORG, 'credential!=""')
    return [
        lines(
            "Spend limits of credentials, used",
            "Settled spend in the window, of the limit. The lines are those that lead at the end of the range.",
            over_time(
                queries.among_top("$top", credentials, by=_OF_SPEND, ranking=credentials), "{{org}} {{credential}} {{limit}}"
            ),
            unit=look.SHARE,
            colours=look.of_a_limit(),
            no_value="No credential with a spend limit",
        ).axis_soft_max(1),
        lines(
            "Rate limits, used",
            "Of the units at once, those that are not left. The lines are those that lead at the end of the range; between two "
            "scrapes a limit may have been used up and regained.",
            over_time(
                queries.among_top("$top", _RATE_USED, by=_OF_RATE, ranking=_RATE_USED),
                "{{org}} {{credential}} {{limit}} {{capability}}",
            ),
            unit=look.SHARE,
            colours=look.of_a_limit(),
            no_value="No organization with a rate limit",
        ).axis_soft_max(1),
    ]


def _as_gauge() -> list[DynamicConfigValue]:
    cell = {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}
    return [
        DynamicConfigValue(id_val="unit", value=look.SHARE),
        DynamicConfigValue(id_val="min", value=0),
        DynamicConfigValue(id_val="max", value=1),
        DynamicConfigValue(id_val="custom.cellOptions", value=cell),
    ]


def _access() -> ValueMap:
    return ValueMap(
        options={
            "0": ValueMappingResult(text="open", color=look.GREEN, index=0),
            "1": ValueMappingResult(text="paused", color=look.RED, index=1),
        }
    )


def _leading(expression: str) -> str:
    return queries.among_top("$top", expression, by="org", ranking=_USED)


def _towards() -> list[Panel]:
    burn = queries.among_top("$top", f"{_BURN} * 3600", by="org", ranking=_BURN)
    return [
        lines(
            "Share of the limit that is used",
            "Settled spend in the window, of the limit. The lines are those that lead at the end of the range.",
            over_time(_leading(_USED), "{{org}}"),
            unit=look.SHARE,
            colours=look.of_a_limit(),
            no_value=_NO_LIMIT,
        ).axis_soft_max(1),
        lines(
            "Time to the limit",
            "At the last hour's rate, if nothing left the window. No line: nothing was spent in the last hour, or there is none.",
            over_time(_leading(_TO_LIMIT), "{{org}}"),
            unit=look.SECONDS,
            no_value="Nothing is being spent",
        ),
        lines(
            "Burn rate per hour, over time",
            "What an hour costs at the last hour's rate, of the organizations that lead at the end of the range.",
            over_time(burn, "{{org}}"),
            unit=look.USD,
            no_value=look.NO_SPEND,
        ),
    ]


def _amounts() -> list[Panel]:
    dashed = DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [10, 10]})
    return [
        lines(
            "Spend in the window, and the limit",
            "Solid: settled spend in the window, as enforced. Dashed: the limit. Choose one organization to see its own scale.",
            over_time(_leading(_WINDOW), "{{org}}"),
            over_time(_leading(_LIMIT), "{{org}} limit"),
            unit=look.USD,
            no_value=_NO_LIMIT,
        ).override_by_regexp(" limit$", [dashed]),
        lines(
            "Held by open requests",
            "Worst-case cost of the requests that are open, which counts against the limit until they end.",
            over_time(_leading(_HELD), "{{org}}"),
            unit=look.USD,
            stacked=True,
            no_value=_NO_LIMIT,
        ),
    ]


def _pauses() -> list[Panel]:
    return [
        states(
            "Access",
            "When a spend limit paused an organization. Those that were paused within the range, then the nearest to their limit.",
            over_time(f"{_PAUSED} and on (org) topk($top, {_ever_paused()} + on (org) {_USED} @ {queries.TO})", "{{org}}"),
        )
        .mappings([_access()])
        .no_value(_NO_LIMIT),
        bars(
            "Refusals by limit",
            "Refused requests by the limit that refused, or by the error code where it was no limit; each hour exactly, as the "
            "workers of each machine counted.",
            over_time(queries.local_bars_by("limit", _REFUSED), "{{limit}}", step="1h"),
            step="1h",
        ).no_value("Nothing was refused"),
        ranking(
            "Refusals in the range",
            "By organization and limit, exact. What the workers of each machine counted.",
            at_the_end(queries.top("$top", queries.local_total_by("org, limit", _REFUSED)), "{{org}}: {{limit}}"),
        ).no_value("Nothing was refused"),
        ranking(
            "Warnings in the range",
            "Crossings of a limit's warning thresholds, each announced once. Exact.",
            at_the_end(queries.top("$top", queries.local_total_by("org, threshold", _WARNINGS)), "{{org}} at {{threshold}}"),
        ).no_value("No warnings"),
    ]


def _ever_paused() -> str:
    """1 for organizations that were paused at any time of the range."""
    return one(f"max_over_time({select('tallygate_paused', _ORG)}[$__range] @ {queries.TO})")


def _costs() -> list[Panel]:
    amounts = families.spend(_ORG)
    total = queries.top("$top", queries.net_total_by("org", *amounts))
    leaders = f"topk($top, {queries.net_total_by('org', *amounts, when=f' @ {queries.TO}')})"
    return [
        bars(
            "Daily cost by organization",
            "Of the last 30 days, in your browser's zone; the last bar is today so far. The organizations that cost the most in "
            f"them. {_EXACT} {_RELATIVE}",
            over_time(f"({queries.net_bars_by('org', *amounts)}) and on (org) {leaders}", "{{org}}", step="1d"),
            step="1d",
            unit=look.USD,
        )
        .time_from("30d")
        .no_value(look.NO_SPEND),
        ranking(
            "Cost this month, by organization",
            f"Since the month began in your browser's zone. {_EXACT} {_RELATIVE}",
            at_the_end(total, "{{org}}"),
            unit=look.USD,
        )
        .time_from("now/M")
        .no_value(look.NO_SPEND),
        ranking(
            "Cost in the range, by organization",
            f"Between the ends of the dashboard's range. {_EXACT}",
            at_the_end(total, "{{org}}"),
            unit=look.USD,
        ).no_value(look.NO_SPEND),
    ]


def _weekly() -> Panel:
    amounts = families.spend(_ORG)
    leaders = f"topk($top, {queries.net_total_by('org', *amounts, when=f' @ {queries.TO}')})"
    return weeks(
        "Weekly cost by organization",
        "Weeks from Monday in your browser's zone, the last twelve; the last one is what there is so far. The organizations that "
        f"cost the most in them. {_EXACT} {_RELATIVE}",
        over_time(f"({queries.net_weeks_by('org', *amounts)}) and on (org) {leaders}", "{{org}}", step="1d"),
        unit=look.USD,
    ).no_value(look.NO_SPEND)


def _kinds() -> list[Panel]:
    amounts = families.spend_by_kind(_ORG)
    return [
        bars(
            "Daily cost by what was paid for",
            "Of the last 30 days and the organizations chosen, in your browser's zone: tokens of prompts, read from and written to "
            f"caches, generated; audio, images and video; searches and other calls; flat fees of routes. {_EXACT} {_RELATIVE}",
            over_time(queries.net_bars_by("kind", *amounts), "{{kind}}", step="1d"),
            step="1d",
            unit=look.USD,
        )
        .time_from("30d")
        .no_value(look.NO_SPEND),
        ranking(
            "Cost in the range, by what was paid for",
            f"Between the ends of the dashboard's range; `other` is what nobody can divide. {_EXACT}",
            at_the_end(queries.net_total_by("kind", *amounts), "{{kind}}"),
            unit=look.USD,
        ).no_value(look.NO_SPEND),
    ]
