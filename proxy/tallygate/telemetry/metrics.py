"""Every metric tallygate exports, declared once and in the order of the exposition: name, kind, help, labels, buckets.

Two sources feed them. Counts of money, tokens and requests are lifetime totals in the ledger's database, updated by the
transaction that enters the events: they equal the ledger, and are the same at every console. Counts that only a worker can make
(latencies, open requests, refusals by limit) are in its count file. Label values come from configuration; others are `other`.
docs/operate.md explains each.
"""

from typing import Final

from tallygate.domain.money import NANO_PER_USD
from tallygate.telemetry.metric import Kind, Lasts, Metric, Source

_US: Final = 1_000
_MS: Final = 1_000_000
_S: Final = 1_000_000_000
_ANSWER_BUCKETS: Final = tuple(
    [step * _MS for step in (5, 10, 25, 50, 100, 250, 500)] + [step * _S for step in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600)],
)
_OVERHEAD_BUCKETS: Final = tuple(
    [step * _US for step in (50, 100, 150, 200, 300, 500, 750)] + [step * _MS for step in (1, 2, 5, 10, 25, 50, 100, 250, 1000)],
)
_LIMITER_BUCKETS: Final = tuple(
    [step * _US for step in (100, 200, 300, 500, 750)]
    + [step * _MS for step in (1, 2, 3, 5, 10, 25, 50, 100, 250, 500)]
    + [step * _S for step in (1, 2, 5)],
)
_EXCHANGE: Final = ("org", "credential", "capability")
_MODEL: Final = ("org", "model")
_SPEND_LIMIT: Final = ("org", "credential", "limit", "window", "mode")
_RATE_LIMIT: Final = ("org", "credential", "capability", "limit", "kind", "window", "mode")

# Lifetime totals of the ledger. A series is absent until there is something to count.
REQUESTS: Final = Metric(
    name="tallygate_requests_total",
    source=Source.TOTALS,
    kind=Kind.COUNTER,
    labels=(*_EXCHANGE, "outcome"),
    help="Requests by how they ended, refused ones included; a hold that expired stays expired when its end is reported later.",
)
TOKENS: Final = Metric(
    name="tallygate_tokens_total",
    source=Source.TOTALS,
    kind=Kind.COUNTER,
    labels=(*_EXCHANGE, "kind"),
    help="Model tokens; kind prompt includes cached tokens, kind completion includes reasoning tokens.",
)
CACHED_TOKENS: Final = Metric(
    name="tallygate_cached_tokens_total",
    source=Source.TOTALS,
    kind=Kind.COUNTER,
    labels=_EXCHANGE,
    help="Prompt tokens that the provider read from its cache; a part of kind prompt.",
)
REASONING_TOKENS: Final = Metric(
    name="tallygate_reasoning_tokens_total",
    source=Source.TOTALS,
    kind=Kind.COUNTER,
    labels=_EXCHANGE,
    help="Completion tokens spent on reasoning; a part of kind completion.",
)
SPEND: Final = Metric(
    name="tallygate_spend_usd_total",
    source=Source.TOTALS,
    kind=Kind.COUNTER,
    labels=_EXCHANGE,
    help="Settled cost in USD, exact to the nano-USD.",
    per_unit=NANO_PER_USD,
)
TOKENS_CREDITED: Final = Metric(
    name="tallygate_tokens_credited_total",
    source=Source.TOTALS,
    kind=Kind.COUNTER,
    labels=(*_EXCHANGE, "kind"),
    help="Model tokens taken back by a late settlement below its checkpoint: to be subtracted.",
)
CACHED_TOKENS_CREDITED: Final = Metric(
    name="tallygate_cached_tokens_credited_total",
    source=Source.TOTALS,
    kind=Kind.COUNTER,
    labels=_EXCHANGE,
    help="Cached tokens taken back for the same reason.",
)
REASONING_TOKENS_CREDITED: Final = Metric(
    name="tallygate_reasoning_tokens_credited_total",
    source=Source.TOTALS,
    kind=Kind.COUNTER,
    labels=_EXCHANGE,
    help="Reasoning tokens taken back for the same reason.",
)
SPEND_CREDITED: Final = Metric(
    name="tallygate_spend_credited_usd_total",
    source=Source.TOTALS,
    kind=Kind.COUNTER,
    labels=_EXCHANGE,
    help="Settled cost taken back, by a late settlement below its checkpoint or by a corrected price: to be subtracted.",
    per_unit=NANO_PER_USD,
)
SPEND_BY_UNIT: Final = Metric(
    name="tallygate_spend_by_unit_usd_total",
    source=Source.TOTALS,
    kind=Kind.COUNTER,
    labels=(*_EXCHANGE, "kind"),
    help="Settled cost in USD by what was paid for: input, cache_read, cache_write, output, media, calls, fee, other.",
    per_unit=NANO_PER_USD,
)
SPEND_BY_UNIT_CREDITED: Final = Metric(
    name="tallygate_spend_by_unit_credited_usd_total",
    source=Source.TOTALS,
    kind=Kind.COUNTER,
    labels=(*_EXCHANGE, "kind"),
    help="Cost of the kind taken back, or found to be of another kind: to be subtracted.",
    per_unit=NANO_PER_USD,
)
MODEL_REQUESTS: Final = Metric(
    name="tallygate_model_requests_total",
    source=Source.TOTALS,
    kind=Kind.COUNTER,
    labels=_MODEL,
    help="Served requests by the priced model that they were charged as; other where there is none. Refused ones have no model.",
)
MODEL_TOKENS: Final = Metric(
    name="tallygate_model_tokens_total",
    source=Source.TOTALS,
    kind=Kind.COUNTER,
    labels=(*_MODEL, "kind"),
    help="Model tokens by the priced model; kind prompt includes cached tokens, kind completion includes reasoning tokens.",
)
MODEL_SPEND: Final = Metric(
    name="tallygate_model_spend_usd_total",
    source=Source.TOTALS,
    kind=Kind.COUNTER,
    labels=_MODEL,
    help="Settled cost in USD by the priced model, exact to the nano-USD.",
    per_unit=NANO_PER_USD,
)
MODEL_TOKENS_CREDITED: Final = Metric(
    name="tallygate_model_tokens_credited_total",
    source=Source.TOTALS,
    kind=Kind.COUNTER,
    labels=(*_MODEL, "kind"),
    help="Model tokens taken back by a late settlement: to be subtracted.",
)
MODEL_SPEND_CREDITED: Final = Metric(
    name="tallygate_model_spend_credited_usd_total",
    source=Source.TOTALS,
    kind=Kind.COUNTER,
    labels=_MODEL,
    help="Settled cost of the model taken back: to be subtracted.",
    per_unit=NANO_PER_USD,
)
USAGE_SOURCE: Final = Metric(
    name="tallygate_usage_source_total",
    source=Source.TOTALS,
    kind=Kind.COUNTER,
    labels=("source",),
    help="Usage events by where their token counts come from: upstream, counted, estimated, assumed, checkpoint, none.",
)
ODD_SETTLEMENTS: Final = Metric(
    name="tallygate_odd_settlements_total",
    source=Source.TOTALS,
    kind=Kind.COUNTER,
    labels=("kind",),
    help="Settlements above their hold (overrun), after its expiry (late), or of a hold that the store has lost (unheld).",
)
HOLDS_EXPIRED: Final = Metric(
    name="tallygate_holds_expired_total",
    source=Source.TOTALS,
    kind=Kind.COUNTER,
    help="Reservations whose worker vanished and which were settled at their last checkpoint.",
)
WEBHOOK_DELIVERIES: Final = Metric(
    name="tallygate_webhook_deliveries_total",
    source=Source.TOTALS,
    kind=Kind.COUNTER,
    labels=("result",),
    help="Webhooks by how an attempt ended: delivered, retried (it failed and is made again), given_up.",
)
WEBHOOK_QUEUE: Final = Metric(
    name="tallygate_webhook_queue",
    source=Source.TOTALS,
    kind=Kind.GAUGE,
    help="Deliveries of notices to webhooks that have not ended yet.",
)

# Further facts about the ledger.
LEDGER_LAG: Final = Metric(
    name="tallygate_ledger_lag_events",
    kind=Kind.GAUGE,
    help="Usage events in the limiter's streams that no ledger has taken yet.",
)
LEDGER_LAG_SECONDS: Final = Metric(
    name="tallygate_ledger_lag_seconds",
    kind=Kind.GAUGE,
    help="Age of the oldest entry in the limiter's streams that no ledger has taken yet; 0 if there is none.",
    per_unit=1_000,
)
BACKLOG_BYTES: Final = Metric(
    name="tallygate_ledger_backlog_bytes",
    kind=Kind.GAUGE,
    help="Memory of the store that usage events take which no ledger has taken yet.",
)
BACKLOG_BYTES_MAX: Final = Metric(
    name="tallygate_ledger_backlog_max_bytes",
    kind=Kind.GAUGE,
    help="Bytes of usage events that may wait: from there on nothing is admitted.",
)
STORE_MEMORY: Final = Metric(
    name="tallygate_store_memory_bytes",
    kind=Kind.GAUGE,
    help="Memory that the limiter's store uses, as it reports it.",
)
STORE_MEMORY_MAX: Final = Metric(
    name="tallygate_store_memory_max_bytes",
    kind=Kind.GAUGE,
    help="The store's maxmemory, at which it refuses writes; absent without one.",
)
LEDGER_DATABASE_UP: Final = Metric(
    name="tallygate_ledger_database_up",
    kind=Kind.GAUGE,
    help="1 if the ledger's database answered this scrape and takes writes, else 0.",
)
TAKES_WRITES: Final = Metric(
    name="tallygate_takes_writes",
    kind=Kind.GAUGE,
    labels=("part", "reason"),
    help=(
        "1 if the part (store, database) took a small write, 0 if it did not, with the reason: slow, memory, disk, "
        "replica, replicas, loading, busy, permission, password, read_only, locked, connections, damaged, tables, missing or gone. "
        "Absent if it does not answer."
    ),
)
READ_REPLICA_LAG: Final = Metric(
    name="tallygate_read_replica_lag_seconds",
    kind=Kind.GAUGE,
    help="Age of the newest state that the read replica is known to have reached; above 10 the primary answers.",
    per_unit=1_000,
)
LEDGER_READS: Final = Metric(
    name="tallygate_ledger_reads_total",
    kind=Kind.COUNTER,
    labels=("server",),
    help="Reads about the past by the server that was asked: replica, or primary where that was away or behind.",
)
JOBS_OPEN: Final = Metric(
    name="tallygate_jobs_open",
    source=Source.TOTALS,
    kind=Kind.GAUGE,
    labels=("kind",),
    help="Work that upstreams go on with after their answer, and that is held until it is done, by kind.",
)
LEDGER_DRIFT: Final = Metric(
    name="tallygate_ledger_drift_nano_usd",
    kind=Kind.GAUGE,
    help="Nano-USD by which the limiter's windows differ from the ledger, looked at every minute; anything but 0 is a fault.",
)
LEDGER_GAPS: Final = Metric(
    name="tallygate_ledger_gaps",
    kind=Kind.GAUGE,
    help="Partitions of the store of whose events the ledger lacks some, since it was put back from an older state; 0 is right.",
)
LEDGER_LACKS: Final = Metric(
    name="tallygate_ledger_lacks_nano_usd",
    kind=Kind.GAUGE,
    help="Nano-USD by which the limiter's windows are lower in such a ledger than in the store, over all organizations.",
)
SPOOL_COPIES: Final = Metric(
    name="tallygate_spool_copies",
    kind=Kind.GAUGE,
    help="Copies of spooled settlements in PostgreSQL: they wait for their gateways or, if those are lost, for the ledger.",
)
SPOOL_COPIES_SETTLED: Final = Metric(
    name="tallygate_spool_copies_settled_total",
    kind=Kind.COUNTER,
    help="Settlements of gateways that did not come back, which this ledger has settled from their copies since it started.",
)
LEDGER_MALFORMED: Final = Metric(
    name="tallygate_ledger_malformed_total",
    kind=Kind.COUNTER,
    help="Stream entries that could not be read and were set aside in the ledger's table malformed.",
)
FILES_GONE: Final = Metric(
    name="tallygate_files_gone",
    kind=Kind.GAUGE,
    labels=("file",),
    help="1 if a file or directory of the data directory was deleted or replaced while it is in use, else 0.",
)
CONSOLE_WRONG_TOKENS: Final = Metric(
    name="tallygate_console_wrong_tokens_total",
    kind=Kind.COUNTER,
    help="Requests to this console's port with a wrong admin token, since its process started.",
)
CONSOLE_LOG_DROPPED: Final = Metric(
    name="tallygate_console_log_dropped_total",
    kind=Kind.COUNTER,
    help="Lines of this console's own log that were dropped, since whatever reads the log did not, since its process started.",
)
STORE_CLOCK_STEPS: Final = Metric(
    name="tallygate_store_clock_steps_total",
    kind=Kind.COUNTER,
    help="How often the store's clock was set by more than ten minutes, ahead or back, as this ledger has seen it.",
)

# Read from the limiter at each scrape.
SPEND_WINDOW: Final = Metric(
    name="tallygate_spend_window_usd",
    kind=Kind.GAUGE,
    labels=("org",),
    help="Settled spend in the window of the organization's first spend limit, as enforced now.",
    per_unit=NANO_PER_USD,
)
SPEND_HELD: Final = Metric(
    name="tallygate_spend_held_usd",
    kind=Kind.GAUGE,
    labels=("org",),
    help="Worst-case cost of the organization's open requests, held against the same limit.",
    per_unit=NANO_PER_USD,
)
SPEND_LIMIT: Final = Metric(
    name="tallygate_spend_limit_usd",
    kind=Kind.GAUGE,
    labels=("org",),
    help="The organization's first spend limit; absent where there is none.",
    per_unit=NANO_PER_USD,
)
PAUSED: Final = Metric(
    name="tallygate_paused",
    kind=Kind.GAUGE,
    labels=("org",),
    help="1 while an enforced spend limit of the organization pauses access, else 0.",
)
SPEND_RESUME: Final = Metric(
    name="tallygate_spend_resume_timestamp_seconds",
    kind=Kind.GAUGE,
    labels=("org",),
    help="Unix time at which a paused organization may spend again; absent while it is not paused.",
    per_unit=1_000,
)
LIMIT_SPENT: Final = Metric(
    name="tallygate_spend_limit_spent_usd",
    kind=Kind.GAUGE,
    labels=_SPEND_LIMIT,
    help="Settled spend in the window of each spend limit, as enforced now; of an organization itself where credential is empty.",
    per_unit=NANO_PER_USD,
)
LIMIT_HELD: Final = Metric(
    name="tallygate_spend_limit_held_usd",
    kind=Kind.GAUGE,
    labels=_SPEND_LIMIT,
    help="Worst-case cost of open requests, held against each spend limit.",
    per_unit=NANO_PER_USD,
)
LIMIT_ALLOWED: Final = Metric(
    name="tallygate_spend_limit_allowed_usd",
    kind=Kind.GAUGE,
    labels=_SPEND_LIMIT,
    help="The most that each spend limit lets be spent in its window.",
    per_unit=NANO_PER_USD,
)
LIMIT_RESUME: Final = Metric(
    name="tallygate_spend_limit_resume_timestamp_seconds",
    kind=Kind.GAUGE,
    labels=_SPEND_LIMIT,
    help="Unix time at which a spend limit that pauses access lets its organization or credential spend again; else absent.",
    per_unit=1_000,
)
RATE_UNITS: Final = Metric(
    name="tallygate_rate_limit_units",
    kind=Kind.GAUGE,
    labels=_RATE_LIMIT,
    help="Units of each rate limit (requests, tokens or open_requests): those of a window, or the most that may be open at once.",
)
RATE_BURST: Final = Metric(
    name="tallygate_rate_limit_burst_units",
    kind=Kind.GAUGE,
    labels=_RATE_LIMIT,
    help="The most units at once of a rate limit; absent where they are those of a window.",
)
RATE_REMAINING: Final = Metric(
    name="tallygate_rate_limit_remaining_units",
    kind=Kind.GAUGE,
    labels=_RATE_LIMIT,
    help="Units of each rate limit that are left now, of those at once.",
)
LIMITS_SKIPPED: Final = Metric(
    name="tallygate_scrape_limits_skipped",
    kind=Kind.GAUGE,
    help="Limits left out of this scrape, being past the bound of one scrape: each organization shows the same number at most.",
)
ORGANIZATIONS_SKIPPED: Final = Metric(
    name="tallygate_scrape_organizations_skipped",
    kind=Kind.GAUGE,
    help="Organizations left out of this scrape, being past the bound of one scrape.",
)
SCRAPE_ERRORS: Final = Metric(
    name="tallygate_scrape_incomplete",
    kind=Kind.GAUGE,
    help="1 if the limiter's store or the ledger's database did not answer this scrape, so that its families are missing from it.",
)

# Counted by the workers.
REFUSED: Final = Metric(
    name="tallygate_refused_total",
    source=Source.WORKERS,
    kind=Kind.COUNTER,
    labels=(*_EXCHANGE, "limit"),
    help="Refused requests by the limit that refused, or by the error code where it was not a limit.",
)
ACCESS_LOG_DROPPED: Final = Metric(
    name="tallygate_access_log_dropped_total",
    source=Source.WORKERS,
    kind=Kind.COUNTER,
    help="Lines of the access log that were dropped, since whatever reads the log was slower than the requests.",
)
OTLP_EXPORTS_FAILED: Final = Metric(
    name="tallygate_otlp_exports_failed_total",
    source=Source.WORKERS,
    kind=Kind.COUNTER,
    labels=("signal",),
    values=("traces", "metrics"),
    has_other=False,
    help="Messages that OpenTelemetry's collector did not take, by what they have. Spans are sent again a few times.",
)
OTLP_SPANS_DROPPED: Final = Metric(
    name="tallygate_otlp_spans_dropped_total",
    source=Source.WORKERS,
    kind=Kind.COUNTER,
    labels=("reason",),
    values=("queue_full", "not_sent", "rejected"),
    has_other=False,
    help="Spans that OpenTelemetry's collector did not get: they had no room to wait, it did not take or it rejected them.",
)
LOG_DROPPED: Final = Metric(
    name="tallygate_log_dropped_total",
    source=Source.WORKERS,
    kind=Kind.COUNTER,
    help="Lines of the workers' logs that were dropped, since whatever reads the log did not.",
)
SHADOW_REFUSED: Final = Metric(
    name="tallygate_shadow_refused_total",
    source=Source.WORKERS,
    kind=Kind.COUNTER,
    labels=(*_EXCHANGE, "limit"),
    help="Requests that a limit in shadow mode would have refused.",
)
REFUSAL_DETAILS_DROPPED: Final = Metric(
    name="tallygate_refusal_details_dropped_total",
    source=Source.WORKERS,
    kind=Kind.COUNTER,
    help="Refusals that the log of refused requests lacks, or only counts, since the ledger did not take earlier ones in time.",
)
SPEND_WARNINGS: Final = Metric(
    name="tallygate_spend_warnings_total",
    source=Source.WORKERS,
    kind=Kind.COUNTER,
    labels=("org", "limit", "threshold"),
    help="Crossings of a spend limit's warning thresholds (a fraction of the limit), each announced once.",
)
REQUEST_SECONDS: Final = Metric(
    name="tallygate_request_seconds",
    source=Source.WORKERS,
    kind=Kind.HISTOGRAM,
    labels=("capability",),
    buckets=_ANSWER_BUCKETS,
    help="From the request's first byte to the response's last.",
)
FIRST_BYTE_SECONDS: Final = Metric(
    name="tallygate_first_byte_seconds",
    source=Source.WORKERS,
    kind=Kind.HISTOGRAM,
    labels=("capability",),
    buckets=_ANSWER_BUCKETS,
    help="From the request's first byte to the first byte of the upstream's body.",
)
OVERHEAD_SECONDS: Final = Metric(
    name="tallygate_overhead_seconds",
    source=Source.WORKERS,
    kind=Kind.HISTOGRAM,
    buckets=_OVERHEAD_BUCKETS,
    help="The gateway's own share of a request: its duration without the waits for client and upstream.",
)
OPEN_SOCKETS: Final = Metric(
    name="tallygate_open_sockets",
    source=Source.WORKERS,
    kind=Kind.GAUGE,
    help="Open WebSockets; each is also an open request.",
    lasts=Lasts.PROCESS,
)
OPEN_REQUESTS: Final = Metric(
    name="tallygate_open_requests",
    source=Source.WORKERS,
    kind=Kind.GAUGE,
    help="Requests between their first byte and their end.",
    lasts=Lasts.PROCESS,
)
LIMITER_SECONDS: Final = Metric(
    name="tallygate_limiter_seconds",
    source=Source.WORKERS,
    kind=Kind.HISTOGRAM,
    labels=("operation",),
    buckets=_LIMITER_BUCKETS,
    help="Time that a worker waits for the limiter's store to answer, by operation: admit or settle.",
    values=("admit", "settle"),
    has_other=False,
)
LIMITER_ERRORS: Final = Metric(
    name="tallygate_limiter_errors_total",
    source=Source.WORKERS,
    kind=Kind.COUNTER,
    labels=("operation",),
    help="Calls that the limiter's store did not answer, by operation: admit or settle.",
    values=("admit", "settle"),
    has_other=False,
)
UNKNOWN_MODELS: Final = Metric(
    name="tallygate_unknown_models_total",
    source=Source.WORKERS,
    kind=Kind.COUNTER,
    labels=("org", "policy"),
    help=(
        "Requests for a model without a price, or for units without one (a search, a tier), by what the plan does: "
        "refuse, price_as, unpriced, unpriced_units."
    ),
)
STATED_COST: Final = Metric(
    name="tallygate_stated_cost_usd_total",
    source=Source.WORKERS,
    kind=Kind.COUNTER,
    labels=("upstream",),
    help="What upstreams themselves stated as the cost of their answers, in USD.",
    per_unit=NANO_PER_USD,
)
STATED_COST_PRICED: Final = Metric(
    name="tallygate_stated_cost_priced_usd_total",
    source=Source.WORKERS,
    kind=Kind.COUNTER,
    labels=("upstream",),
    help="What the same answers cost by the prices here, in USD: the difference shows rates that are wrong or missing.",
    per_unit=NANO_PER_USD,
)
JOB_POLLS: Final = Metric(
    name="tallygate_job_polls_total",
    source=Source.WORKERS,
    kind=Kind.COUNTER,
    labels=("result",),
    values=("running", "ended", "lost", "unanswered"),
    has_other=False,
    help="How often upstreams were asked about work that goes on after its answer (responses, batches, videos), by result.",
)
DIRECTORY_UNREAD: Final = Metric(
    name="tallygate_directory_unread_workers",
    source=Source.WORKERS,
    kind=Kind.GAUGE,
    help="Workers that have not been able to read the organizations of the database since they started.",
    lasts=Lasts.PROCESS,
)
DIRECTORY_SNAPSHOT: Final = Metric(
    name="tallygate_directory_snapshot_workers",
    source=Source.WORKERS,
    kind=Kind.GAUGE,
    help="Workers that serve organizations of the database from the snapshot on their disk, since it was away at their start.",
    lasts=Lasts.PROCESS,
)
SNAPSHOT_AGE: Final = Metric(
    name="tallygate_directory_snapshot_age_seconds",
    kind=Kind.GAUGE,
    help="Time since the snapshot of the directory in the data directory was what the database had.",
)
SPOOL_EVENTS: Final = Metric(
    name="tallygate_spool_events",
    source=Source.WORKERS,
    kind=Kind.GAUGE,
    help="Settlements that wait in the workers' spools for the limiter's store.",
    lasts=Lasts.SLOT,
)
SPOOL_UNCOPIED: Final = Metric(
    name="tallygate_spool_uncopied",
    source=Source.WORKERS,
    kind=Kind.GAUGE,
    help="Settlements among them that PostgreSQL has no copy of: a lost disk takes them with it. Not counted beside SQLite.",
    lasts=Lasts.SLOT,
)
SPOOL_FULL: Final = Metric(
    name="tallygate_spool_full_workers",
    source=Source.WORKERS,
    kind=Kind.GAUGE,
    help="Workers that admit nothing, since their spool is full or the disk has no room for it.",
    lasts=Lasts.PROCESS,
)
FAIL_OPEN: Final = Metric(
    name="tallygate_fail_open_total",
    source=Source.WORKERS,
    kind=Kind.COUNTER,
    labels=("class",),
    help="Requests admitted without the limiter's word, by class of limit (rate, spend).",
    values=("rate", "spend"),
)
UPSTREAM_ERRORS: Final = Metric(
    name="tallygate_upstream_errors_total",
    source=Source.WORKERS,
    kind=Kind.COUNTER,
    labels=("upstream", "kind"),
    help=(
        "Failures of an upstream by kind: unreachable, overloaded, timeout, reset, invalid_response, truncated, unauthorized, "
        "status (5xx) or in_stream."
    ),
    values=(
        "unreachable",
        "overloaded",
        "timeout",
        "reset",
        "invalid_response",
        "truncated",
        "unauthorized",
        "status",
        "in_stream",
    ),
)
KEY_LOOKUPS: Final = Metric(
    name="tallygate_key_lookups_total",
    source=Source.WORKERS,
    kind=Kind.COUNTER,
    labels=("result",),
    help="Keys asked about at the look-up service: active, inactive, failed, or busy (not asked, since too many were).",
    values=("active", "inactive", "failed", "busy"),
)
READING_ON: Final = Metric(
    name="tallygate_reading_on",
    source=Source.WORKERS,
    kind=Kind.GAUGE,
    help="Answers whose clients have left and that are read on for their exact usage.",
    lasts=Lasts.PROCESS,
)
READ_ON: Final = Metric(
    name="tallygate_read_on_total",
    source=Source.WORKERS,
    kind=Kind.COUNTER,
    labels=("end",),
    help="Answers whose clients left, by how reading on ended: complete, failed (upstream), shutdown, or at a bound, "
    "which is time, count, org_count, bytes or org_bytes.",
    values=("complete", "failed", "time", "count", "org_count", "bytes", "org_bytes", "shutdown"),
)
BAD_REQUESTS: Final = Metric(
    name="tallygate_bad_requests_total",
    source=Source.WORKERS,
    kind=Kind.COUNTER,
    help="Connections that sent no valid HTTP request; they have no organization and are not in requests_total.",
)
CONFIG_RELOADS: Final = Metric(
    name="tallygate_config_reloads_total",
    source=Source.WORKERS,
    kind=Kind.COUNTER,
    labels=("result",),
    help="Reloads of the configuration by worker: applied, or rejected and the old one kept.",
    values=("applied", "rejected"),
)

# The processes themselves.
BUILD_INFO: Final = Metric(
    name="tallygate_build_info",
    kind=Kind.GAUGE,
    labels=("version", "config"),
    help="Always 1; the labels are the version and the digest of the configuration.",
)
LIST_PRICES_AGE: Final = Metric(
    name="tallygate_list_prices_age_seconds",
    kind=Kind.GAUGE,
    help="Time since list prices were last compared with their sources, by the newest `reviewed` of the configuration.",
)
WORKER_UP: Final = Metric(
    name="tallygate_worker_up",
    kind=Kind.GAUGE,
    labels=("worker",),
    help="1 if the worker runs, serves and has shown life within ten seconds.",
)
WORKER_STARTS: Final = Metric(
    name="tallygate_worker_starts_total",
    kind=Kind.COUNTER,
    labels=("worker",),
    help="Starts of each worker; more than one without a deployment means that it crashed.",
)
WORKER_CPU: Final = Metric(
    name="tallygate_worker_cpu_seconds_total",
    kind=Kind.COUNTER,
    labels=("worker",),
    help="User and system CPU time of the worker's current process.",
)
WORKER_MEMORY: Final = Metric(
    name="tallygate_worker_resident_memory_bytes",
    kind=Kind.GAUGE,
    labels=("worker",),
    help="Resident memory of the worker's current process.",
)
WORKER_FILES: Final = Metric(
    name="tallygate_worker_open_fds",
    kind=Kind.GAUGE,
    labels=("worker",),
    help="Open file descriptors of the worker's current process.",
)

METRICS: Final = tuple(declared for declared in tuple(globals().values()) if isinstance(declared, Metric))
WORKER_METRICS: Final = tuple(metric for metric in METRICS if metric.source is Source.WORKERS)
