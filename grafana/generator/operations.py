"""Sections of Gateway health on what an operator keeps: stores, files, logs, and work that goes on beside requests."""

from typing import Final

from grafana.generator import look, queries
from grafana.generator.layout import Band, Section
from grafana.generator.panels import Panel, bars, figure, lines
from grafana.generator.queries import one, or_zero
from grafana.generator.targets import at_the_end, over_time

_STEP: Final = "1m"
_NONE: Final = "None"


def counted(title: str, description: str, series: str, by: str) -> Panel:
    """Bars of a counter of faults by a label: 0 while there are none."""
    query = over_time(or_zero(queries.local_bars_by(by, series), by), f"{{{{{by}}}}}", step=_STEP)
    return bars(title, f"{description} Exact for each bar.", query, step=_STEP).no_value(_NONE)


def stores_and_files() -> Section:
    return Section(
        title="Stores and files",
        bands=[
            Band(panels=_stores(), height=4),
            Band(panels=_room(), height=8),
            Band(panels=_further(), height=4),
            Band(panels=_directory(), height=4),
            Band(panels=_spools(), height=4),
        ],
    )


def beside_requests() -> Section:
    return Section(title="Work beside requests", bands=[Band(panels=_jobs(), height=8)])


def logs_and_traces() -> Section:
    return Section(title="Logs and traces", bands=[Band(panels=_lost(), height=8)])


def _stores() -> list[Panel]:
    return [
        figure(
            "Takes writes",
            "1 if store and database took a small write, 0 with the reason if they did not. What does not answer is not shown.",
            at_the_end("min by (part, reason) (tallygate_takes_writes)", "{{part}} {{reason}}"),
            colours=look.steps((1, look.GREEN), base=look.RED),
        ).no_value(look.NO_CONSOLE),
        figure(
            "Own files missing",
            "Files and directories of data directories that were deleted or replaced while they are in use.",
            at_the_end("sum (tallygate_files_gone)"),
            colours=look.never(),
        ).no_value(look.NO_CONSOLE),
        figure(
            "Room for usage, taken",
            "Share of the bytes of usage events that may wait for the ledger: at 100 % nothing is admitted.",
            at_the_end(f"max ({one('tallygate_ledger_backlog_bytes / tallygate_ledger_backlog_max_bytes')})"),
            unit=look.SHARE,
            colours=look.steps((0.5, look.YELLOW), (1, look.RED)),
        ).no_value(look.NO_STORE),
        figure(
            "The ledger lacks",
            "Partitions of the store of whose events the ledger lacks some, as it was put back from an older state, and by how "
            "much spend is lower there.",
            at_the_end(f"max ({one('tallygate_ledger_gaps')})", "partitions"),
            at_the_end(f"max ({one('tallygate_ledger_lacks_nano_usd')}) / 1e9", "USD"),
            colours=look.never(),
        ).no_value(look.NO_LEDGER),
    ]


def _room() -> list[Panel]:
    return [
        lines(
            "Usage that waits in the store",
            "Memory of events that no ledger has taken yet, and how much of it may wait: from there on nothing is admitted.",
            over_time(f"max ({one('tallygate_ledger_backlog_bytes')})", "waits"),
            over_time(f"max ({one('tallygate_ledger_backlog_max_bytes')})", "may wait"),
            unit=look.BYTES,
            no_value=look.NO_STORE,
        ),
        lines(
            "Memory of the store",
            "As the store reports it, and its maxmemory, at which it refuses writes: 0 without one.",
            over_time(f"max ({one('tallygate_store_memory_bytes')})", "used"),
            over_time(or_zero(f"max ({one('tallygate_store_memory_max_bytes')})"), "maxmemory"),
            unit=look.BYTES,
            no_value=look.NO_STORE,
        ),
        lines(
            "Writes taken",
            "1 while store and database take small writes; a line at 0 has the reason in its name.",
            over_time("min by (part, reason) (tallygate_takes_writes)", "{{part}} {{reason}}"),
            no_value=look.NO_CONSOLE,
        ),
        lines(
            "Read replica: age",
            "Of the newest state that the replica is known to have reached; above 10 s the primary answers.",
            over_time("max (tallygate_read_replica_lag_seconds)", "age"),
            unit=look.SECONDS,
            no_value=look.NO_REPLICA,
        ),
        lines(
            "Read replica: reads by server",
            "Reads about the past a second: of the replica, or of the primary where that was away or behind.",
            over_time(queries.local_rate_by("server", "tallygate_ledger_reads_total"), "{{server}}"),
            no_value=look.NO_REPLICA,
        ),
        lines(
            "Files missing, by name",
            "Files and directories of data directories that were deleted or replaced while they are in use.",
            over_time("sum by (file) (tallygate_files_gone)", "{{file}}"),
            no_value=look.NO_CONSOLE,
        ),
    ]


def _further() -> list[Panel]:
    return [
        figure(
            "Store's clock set",
            "How often in the range the store's clock was set by more than ten minutes, as ledgers saw it. Exact.",
            at_the_end(or_zero(f"max ({queries.local_total_by('instance', 'tallygate_store_clock_steps_total')})")),
            colours=look.never(),
        ),
        figure(
            "Age of list prices",
            "Since list prices were last compared with their sources.",
            at_the_end(f"max ({one('tallygate_list_prices_age_seconds')})"),
            unit=look.SECONDS,
        ).no_value(look.NO_CONSOLE),
    ]


def _directory() -> list[Panel]:
    return [
        figure(
            "Workers without organizations",
            "Workers that have not been able to read the organizations of the database since they started.",
            at_the_end(or_zero("sum (tallygate_directory_unread_workers)")),
            colours=look.never(),
        ).no_value(look.NO_GATEWAY),
        figure(
            "Workers on a snapshot",
            "Workers that serve organizations of the database from the snapshot on their disk, since it was away at their start.",
            at_the_end(or_zero("sum (tallygate_directory_snapshot_workers)")),
            colours=look.never(),
        ).no_value(look.NO_GATEWAY),
        figure(
            "Age of the oldest snapshot",
            "Since the snapshot of organizations on a gateway's disk was what the database had.",
            at_the_end("max (tallygate_directory_snapshot_age_seconds)"),
            unit=look.SECONDS,
        ).no_value(look.NO_GATEWAY),
    ]


def _spools() -> list[Panel]:
    return [
        figure(
            "Workers without room",
            "Workers that admit nothing, since their spool is full or the disk has no room for it.",
            at_the_end(or_zero("sum (tallygate_spool_full_workers)")),
            colours=look.never(),
        ).no_value(look.NO_GATEWAY),
        figure(
            "Spooled settlements without a copy",
            "Settlements on the machines' disks that PostgreSQL has no copy of: a lost disk takes them with it.",
            at_the_end(or_zero("sum (tallygate_spool_uncopied)")),
            colours=look.steps((1, look.YELLOW)),
        ).no_value(look.NO_GATEWAY),
        figure(
            "Copies of spooled settlements",
            "In PostgreSQL: they wait for their gateways or, if those are lost, for the ledger.",
            at_the_end(or_zero(f"max ({one('tallygate_spool_copies')})")),
            colours=look.steps((1, look.YELLOW)),
        ).no_value(look.NO_DATABASE),
        figure(
            "Settled from copies",
            "Settlements in the range of gateways that did not come back, which ledgers have settled from their copies. Exact.",
            at_the_end(or_zero(queries.local_total_by("", "tallygate_spool_copies_settled_total"))),
            colours=look.steps((1, look.YELLOW)),
        ).no_value(look.NO_LEDGER),
    ]


def _jobs() -> list[Panel]:
    return [
        lines(
            "Work that upstreams go on with",
            "Responses, batches and videos whose answer has ended and whose cost is held until they are done.",
            over_time(f"sum by (kind) ({one('tallygate_jobs_open')})", "{{kind}}"),
            no_value=look.NO_DATABASE,
        ),
        counted(
            "Asked how it goes on",
            "How often upstreams were asked about such work, by result.",
            "tallygate_job_polls_total",
            "result",
        ),
        lines(
            "Answers read on",
            "Answers whose clients have left, read on for their exact usage.",
            over_time("sum (tallygate_reading_on)", "read on now"),
            no_value=look.NO_GATEWAY,
        ),
        counted(
            "How reading on ended",
            "Complete, failed, at a shutdown, or at a bound of time, number or bytes.",
            "tallygate_read_on_total",
            "end",
        ),
        counted(
            "Keys looked up",
            "Keys asked about at the look-up service, by result; busy: not asked, since too many were.",
            "tallygate_key_lookups_total",
            "result",
        ),
        counted("Wrong tokens", "Requests to consoles with a wrong token.", "tallygate_console_wrong_tokens_total", "instance"),
    ]


def _lost() -> list[Panel]:
    dropped = {
        "log of workers": "tallygate_log_dropped_total",
        "log of consoles": "tallygate_console_log_dropped_total",
        "access log": "tallygate_access_log_dropped_total",
        "log of refused requests": "tallygate_refusal_details_dropped_total",
    }
    return [
        bars(
            "Lines dropped",
            "Of logs whose reader did not keep up. Exact for each bar.",
            *(over_time(or_zero(queries.local_bars_by("", series)), legend, step=_STEP) for legend, series in dropped.items()),
            step=_STEP,
        ).no_value(_NONE),
        counted(
            "Not taken by the collector",
            "Messages that OpenTelemetry's collector did not take, by signal.",
            "tallygate_otlp_exports_failed_total",
            "signal",
        ),
        counted("Spans dropped", "That the collector did not get, by reason.", "tallygate_otlp_spans_dropped_total", "reason"),
    ]
