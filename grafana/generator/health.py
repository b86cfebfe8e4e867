"""Gateway health: is it serving, whose fault is what fails, what does it add, does its bookkeeping keep up."""

from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from grafana.generator import families, look, operations, queries, shell, variables
from grafana.generator.layout import Band, Section, lay_out
from grafana.generator.operations import counted
from grafana.generator.panels import Panel, bars, columns, figure, lines, words
from grafana.generator.queries import local_rate_by, one, or_zero, rate_by, select
from grafana.generator.targets import at_the_end, column, over_time

_CAPABILITY: Final = families.CAPABILITY
_REQUESTS: Final = "tallygate_requests_total"
_RATE: Final = "A rate, so it is extrapolated by Prometheus."
_NONE: Final = "None"
_NOT_ASKED: Final = "The limiter's store was not asked"
_WORKERS: Final = "As its machine's console tells."
_STEP: Final = "1m"
_WORDS: Final = """
**Whose fault**: *caller* are requests that the provider answered 4xx, clients that left, and connections that sent no valid
HTTP; *limits* are refusals; *upstream* are providers that could not be reached, failed, timed out or broke off; *gateway* are
our own: requests admitted without the limiter's word, limiter calls without an answer, and reservations whose worker
vanished.

**Overhead** is the gateway's own share of a request: its duration without the waits for client and upstream. **Drift**
compares the limiter's windows with the ledger each minute; anything but 0 is a fault. **Lag** is what no ledger has taken
yet: it grows while the database is away and is caught up afterwards, nothing is lost. **Spool** is what the store did not
take yet. What each alert means and what to do about it stands in the runbooks.
"""


def health() -> Dashboard:
    made = shell.dashboard(
        shell.HEALTH,
        "tallygate / Gateway health",
        "Rates, errors by who is at fault, latency and own overhead, the limiter, the ledger and the workers.",
        first_range="now-6h",
        refresh="30s",
    )
    made = made.annotation(shell.restarts()).annotation(shell.pauses('org!=""'))
    for variable in (variables.metrics_choice(), variables.capabilities(_REQUESTS)):
        made = made.with_variable(variable)
    return lay_out(made, _sections())


def _sections() -> list[Section]:
    return [
        Section(bands=[Band(panels=_figures(), height=4), Band(panels=_traffic(), height=8)]),
        Section(title="Latency", bands=[Band(panels=_latency(), height=8), Band(panels=_waits(), height=8)]),
        Section(title="Failures", bands=[Band(panels=_failures(), height=8)]),
        Section(title="Limiter", bands=[Band(panels=_limiter(), height=8), Band(panels=_decisions(), height=4)]),
        Section(title="Ledger", bands=[Band(panels=_ledger_figures(), height=4), Band(panels=_ledger(), height=8)]),
        operations.stores_and_files(),
        Section(title="Usage counts", bands=[Band(panels=_sources(), height=8)]),
        operations.beside_requests(),
        Section(title="Processes", bands=[Band(panels=_processes(), height=8), Band(panels=_targets(), height=8, widths=[8, 16])]),
        operations.logs_and_traces(),
        Section(title="What these numbers mean", bands=[Band(panels=[words("", _WORDS)], height=8)]),
    ]


def _figures() -> list[Panel]:
    return [
        figure(
            "Requests per second",
            f"All requests with a valid key or without, refused ones included, at the end of the range. {_RATE}",
            at_the_end(rate_by("", _REQUESTS)),
            unit=look.PER_SECOND,
        ),
        figure(
            "Upstream failures",
            "Failures of upstreams in the last five minutes, of the requests that went to one.",
            at_the_end("tallygate_upstream_errors:ratio5m"),
            unit=look.SHARE,
            colours=look.steps((0.01, look.YELLOW), (0.05, look.RED)),
        ).no_value(look.NO_RECENT),
        figure(
            "Overhead, p99",
            "The gateway's own share of a request, in the last five minutes; interpolated within the histogram's buckets.",
            at_the_end("tallygate_overhead_seconds:p99_5m"),
            unit=look.SECONDS,
            colours=look.steps((0.005, look.YELLOW), (0.025, look.RED)),
        ).no_value(look.NO_RECENT),
        figure(
            "Workers down",
            "Workers that do not run, do not serve, or have shown no life for ten seconds.",
            at_the_end("count (tallygate_worker_up) - sum (tallygate_worker_up)"),
            colours=look.steps((1, look.RED)),
        ).no_value(look.NO_GATEWAY),
        figure(
            "Ledger lag",
            "Age of the oldest usage event that no ledger has taken.",
            at_the_end(f"max ({one('tallygate_ledger_lag_seconds')})"),
            unit=look.SECONDS,
            colours=look.steps((60, look.YELLOW), (600, look.RED)),
        ).no_value(look.NO_STORE),
        figure(
            "Admitted without the limiter",
            "Requests in the range that were admitted without the limiter's word. Exact.",
            at_the_end(or_zero(queries.local_total_by("", "tallygate_fail_open_total"))),
            colours=look.steps((1, look.RED)),
        ),
    ]


def _traffic() -> list[Panel]:
    requests = select(_REQUESTS, _CAPABILITY)

    def ended(*outcomes: str) -> str:
        return rate_by("", select(_REQUESTS, _CAPABILITY, f'outcome=~"{"|".join(outcomes)}"'))

    gateway = " + ".join(
        f"({or_zero(rate)})"
        for rate in (
            local_rate_by("", "tallygate_fail_open_total"),
            local_rate_by("", "tallygate_limiter_errors_total"),
            rate_by("", "tallygate_holds_expired_total"),
        )
    )
    caller = f"({or_zero(ended('client_error', 'client_gone'))}) + ({or_zero(local_rate_by('', 'tallygate_bad_requests_total'))})"
    return [
        lines(
            "Requests per second by status",
            f"How requests ended, refused ones included. {_RATE}",
            over_time(rate_by("outcome", requests), "{{outcome}}"),
            unit=look.PER_SECOND,
            stacked=True,
        ),
        lines(
            "Errors per second by who is at fault",
            f"Caller, limits, upstream or gateway, as explained at the end of this page. {_RATE}",
            over_time(caller, "Caller"),
            over_time(or_zero(ended("refused")), "Limits"),
            over_time(or_zero(ended("upstream_error", "truncated")), "Upstream"),
            over_time(gateway, "Gateway"),
            unit=look.PER_SECOND,
        ),
    ]


def _latency() -> list[Panel]:
    bucket = select("tallygate_request_seconds_bucket", _CAPABILITY)
    named = "capability:tallygate_request_seconds:{}_5m"
    return [
        lines(
            "Duration by capability",
            "From a request's first byte to the response's last, over five minutes; interpolated within the histogram's "
            "buckets. Points are "
            "single requests: their id leads to the usage event.",
            *(over_time(select(named.format(p), _CAPABILITY), f"{{{{capability}}}} {p}") for p in ("p50", "p95", "p99")),
            over_time(queries.quantile("0.95", "", bucket), "all p95", exemplars=True),
            unit=look.SECONDS,
        ),
        lines(
            "First byte, p95",
            "From a request's first byte to the first byte of the upstream's body, over five minutes: what a reader of a "
            "stream waits for.",
            over_time(select("capability:tallygate_first_byte_seconds:p95_5m", _CAPABILITY), "{{capability}}"),
            unit=look.SECONDS,
        ),
    ]


def _waits() -> list[Panel]:
    return [
        lines(
            "Own overhead",
            "The gateway's own share of a request: its duration without the waits for client and upstream, over five minutes.",
            over_time("tallygate_overhead_seconds:p50_5m", "p50"),
            over_time("tallygate_overhead_seconds:p99_5m", "p99"),
            unit=look.SECONDS,
        ),
        lines(
            "Open requests",
            "Requests and streams between their first byte and their end, by machine.",
            over_time("sum by (instance) (tallygate_open_requests)", "{{instance}}"),
            stacked=True,
            no_value=look.NO_GATEWAY,
        ),
        lines(
            "Open WebSockets",
            "By machine; each is also an open request.",
            over_time("sum by (instance) (tallygate_open_sockets)", "{{instance}}"),
            stacked=True,
            no_value=look.NO_GATEWAY,
        ),
    ]


def _failures() -> list[Panel]:
    return [
        counted(
            "Upstream failures by kind",
            "Unreachable, overloaded, timeout, reset, invalid_response, truncated, unauthorized, status (5xx) or in_stream.",
            "tallygate_upstream_errors_total",
            "kind",
        ),
        counted(
            "Upstream failures by upstream",
            "By the upstream's name in upstreams.yaml.",
            "tallygate_upstream_errors_total",
            "upstream",
        ),
        counted(
            "Refusals by limit or reason",
            "The limit that refused, or the error code where it was no limit.",
            select("tallygate_refused_total", _CAPABILITY),
            "limit",
        ),
        counted(
            "Limits in shadow",
            "Requests that a limit in shadow mode would have refused.",
            select("tallygate_shadow_refused_total", _CAPABILITY),
            "limit",
        ),
    ]


def _limiter() -> list[Panel]:
    bucket = "tallygate_limiter_seconds_bucket"
    return [
        lines(
            "The store's answers",
            "How long workers wait for the limiter's store, by operation; interpolated within the histogram's buckets.",
            over_time(queries.quantile("0.5", "operation", bucket), "{{operation}} p50"),
            over_time(queries.quantile("0.99", "operation", bucket), "{{operation}} p99"),
            unit=look.SECONDS,
            no_value=_NOT_ASKED,
        ),
        lines(
            "Calls per second",
            f"Calls of the store by operation. {_RATE}",
            over_time(local_rate_by("operation", "tallygate_limiter_seconds_count"), "{{operation}}"),
            unit=look.PER_SECOND,
            no_value=_NOT_ASKED,
        ),
        bars(
            "Calls without an answer",
            "By operation. Exact for each bar.",
            over_time(
                or_zero(queries.local_bars_by("operation", "tallygate_limiter_errors_total"), "operation"),
                "{{operation}}",
                step=_STEP,
            ),
            step=_STEP,
        ).no_value(_NONE),
    ]


def _decisions() -> list[Panel]:
    return [
        figure(
            "Rate limits without the limiter",
            "Requests in the range that were held to a local share of their rate limits only. Exact.",
            at_the_end(or_zero(queries.local_total_by("", select("tallygate_fail_open_total", 'class="rate"')))),
            colours=look.steps((1, look.YELLOW)),
        ),
        figure(
            "Spend limits without the limiter",
            "Requests in the range that were admitted on the grace amount of their organization. Exact.",
            at_the_end(or_zero(queries.local_total_by("", select("tallygate_fail_open_total", 'class="spend"')))),
            colours=look.steps((1, look.RED)),
        ),
        figure(
            "Reservations expired",
            "Reservations in the range whose worker vanished; they are charged at their last checkpoint. Exact.",
            at_the_end(or_zero(queries.total_by("", "tallygate_holds_expired_total"))),
            colours=look.steps((1, look.YELLOW)),
        ),
        figure(
            "Odd settlements",
            "Settlements in the range above their hold, after its expiry, or of a hold that the store has lost. Exact.",
            at_the_end(or_zero(queries.total_by("", "tallygate_odd_settlements_total"))),
            colours=look.steps((1, look.YELLOW)),
        ),
        figure(
            "Scrapes incomplete",
            "Consoles that could not read the limiter for their last scrape.",
            at_the_end("sum (tallygate_scrape_incomplete)"),
            colours=look.steps((1, look.RED)),
        ).no_value(look.NO_CONSOLE),
        figure(
            "Left out of the scrape",
            "Organizations, and limits, past the bound of one scrape, which these dashboards do not show.",
            at_the_end("max (tallygate_scrape_organizations_skipped)", "organizations"),
            at_the_end("max (tallygate_scrape_limits_skipped)", "limits"),
            colours=look.steps((1, look.YELLOW)),
        ).no_value(look.NO_CONSOLE),
    ]


def _ledger_figures() -> list[Panel]:
    return [
        figure(
            "Database",
            "1 while the ledger's database answers.",
            at_the_end(f"min ({one('tallygate_ledger_database_up')})"),
            colours=look.steps((1, look.GREEN), base=look.RED),
        ).no_value(look.NO_CONSOLE),
        figure(
            "Drift",
            "Nano-USD by which the limiter's windows differ from the ledger, looked at every minute.",
            at_the_end(f"max (abs ({one('tallygate_ledger_drift_nano_usd')}))"),
            colours=look.never(),
        ).no_value(look.NO_LEDGER),
        figure(
            "Malformed events",
            "Stream entries of the range that were set aside in the ledger's table malformed. Exact.",
            at_the_end(or_zero(queries.local_total_by("", "tallygate_ledger_malformed_total"))),
            colours=look.never(),
        ),
        figure(
            "Spool",
            "Settlements that wait on the machines' disks for the store.",
            at_the_end("sum (tallygate_spool_events)"),
            colours=look.steps((1, look.YELLOW)),
        ).no_value(look.NO_GATEWAY),
        figure(
            "Webhooks waiting",
            "Notices that are not delivered yet.",
            at_the_end(f"max ({one('tallygate_webhook_queue')})"),
            colours=look.steps((100, look.YELLOW)),
        ).no_value(look.NO_DATABASE),
        figure(
            "Webhooks given up",
            "Notices of the range that were not delivered within the time for retries. Exact.",
            at_the_end(or_zero(queries.total_by("", select("tallygate_webhook_deliveries_total", 'result="given_up"')))),
            colours=look.steps((1, look.RED)),
        ),
    ]


def _ledger() -> list[Panel]:
    return [
        lines(
            "Events that no ledger has taken",
            "In the streams of the limiter's store. It grows while the database is away, and is caught up.",
            over_time(f"max ({one('tallygate_ledger_lag_events')})", "events"),
            no_value=look.NO_STORE,
        ),
        lines(
            "Age of the oldest of them",
            "How far the ledger, and so the counters of these dashboards, are behind.",
            over_time(f"max ({one('tallygate_ledger_lag_seconds')})", "lag"),
            unit=look.SECONDS,
            no_value=look.NO_STORE,
        ),
        lines(
            "Webhook deliveries per second",
            f"By how they ended. {_RATE}",
            over_time(or_zero(rate_by("result", "tallygate_webhook_deliveries_total"), "result"), "{{result}}"),
            unit=look.PER_SECOND,
            no_value="No webhooks",
        ),
    ]


def _sources() -> list[Panel]:
    return [
        bars(
            "Where token counts come from",
            "Usage events by source: the upstream's own count, counted or estimated by tallygate, assumed where nobody "
            "could see it, a killed worker's checkpoint, or none for "
            "endpoints without tokens. Exact for each bar.",
            over_time(queries.bars_by("source", "tallygate_usage_source_total"), "{{source}}", step=_STEP),
            step=_STEP,
        ),
        lines(
            "Share without the upstream's count",
            "Over the last hour, endpoints without tokens left out.",
            over_time("tallygate_usage_without_upstream:ratio1h", "share"),
            unit=look.SHARE,
        ),
        bars(
            "Models without a price",
            "Requests by what the plan does about them: refuse, price_as another model, unpriced, unpriced_units (part of it). "
            "Exact for each bar.",
            over_time(
                or_zero(queries.local_bars_by("policy", "tallygate_unknown_models_total"), "policy"), "{{policy}}", step=_STEP
            ),
            step=_STEP,
        ).no_value(_NONE),
        _stated_costs(),
    ]


def _stated_costs() -> Panel:
    """What an upstream says beside what prices here say."""
    stated, priced = (
        or_zero(queries.local_bars_by("upstream", series), "upstream")
        for series in ("tallygate_stated_cost_usd_total", "tallygate_stated_cost_priced_usd_total")
    )
    return lines(
        "Costs that upstreams state",
        "What upstreams stated as the cost of their answers, and what the same answers cost by the prices here: a difference shows "
        "rates that are wrong or missing. Exact for each interval.",
        over_time(stated, "{{upstream}} stated", step=_STEP),
        over_time(priced, "{{upstream}} by our prices", step=_STEP),
        unit=look.USD,
    )


def _processes() -> list[Panel]:
    worker = "{{instance}} worker {{worker}}"
    return [
        lines(
            "CPU by worker",
            "User and system time of each worker's process; 1 is a whole core.",
            over_time("rate(tallygate_worker_cpu_seconds_total[$__rate_interval])", worker),
            unit=look.SHARE,
            no_value=look.NO_GATEWAY,
        ),
        lines(
            "Memory by worker",
            f"Resident memory. {_WORKERS}",
            over_time("tallygate_worker_resident_memory_bytes", worker),
            unit=look.BYTES,
            no_value=look.NO_GATEWAY,
        ),
        lines(
            "Open files by worker",
            f"Open file descriptors. {_WORKERS}",
            over_time("tallygate_worker_open_fds", worker),
            no_value=look.NO_GATEWAY,
        ),
        bars(
            "Worker starts",
            "More than one without a deployment means that a worker crashed. Exact for each bar.",
            over_time(queries.local_bars_by("worker", "tallygate_worker_starts_total"), "worker {{worker}}", step=_STEP),
            step=_STEP,
        ).no_value(look.NO_GATEWAY),
    ]


def _targets() -> list[Panel]:
    reloads = queries.local_bars_by("result", "tallygate_config_reloads_total")
    return [
        bars(
            "Configuration reloads",
            "By worker: applied, or rejected and the old one kept. Exact for each bar.",
            over_time(or_zero(reloads, "result"), "{{result}}", step=_STEP),
            step=_STEP,
        ).no_value(_NONE),
        columns(
            "What is scraped",
            "Every target with its version and the digest of its configuration: more than one digest means that a reload has "
            "not reached all.",
            {
                "Build": column("tallygate_build_info"),
                "Up": column('up{job=~"tallygate.*"}'),
                "Workers up": column("sum by (instance, job) (tallygate_worker_up)"),
            },
            labels={"job": "Job", "instance": "Target", "version": "Version", "config": "Configuration"},
            hidden=["Build"],
        )
        .no_value("Nothing of tallygate is scraped")
        .override_by_name(
            "Up", [DynamicConfigValue(id_val="thresholds", value=look.steps((1, look.GREEN), base=look.RED).build())]
        ),
    ]
