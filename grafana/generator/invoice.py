"""Invoice: a month of one organization, straight from the ledger, to the nano-dollar."""

from typing import Final

from grafana_foundation_sdk.builders import barchart, stat, table
from grafana_foundation_sdk.builders.common import ReduceDataOptions
from grafana_foundation_sdk.builders.dashboard import Dashboard, TimePicker
from grafana_foundation_sdk.models.common import VisibilityMode
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from grafana.generator import ledger_sql, look, panels, shell, variables
from grafana.generator.layout import Band, Section, lay_out
from grafana.generator.panels import Panel, words
from grafana.generator.targets import SqlQuery, ledger_source

_SAME: Final = "The same figure as `tallygate invoice` prints."
_NOTHING: Final = "Nothing in this month"
_WORDS: Final = """
These numbers are read from the ledger's tables in PostgreSQL, not from metrics: every figure is a sum of integers in
nano-USD, and equals `tallygate invoice` for the same organization and month. *Cost, exact* has all nine decimals; a column
*Cost* is rounded for display.

A month begins in the calendar month chosen, on the **billing day**, in the **billing time zone**: those of the organization,
filled in by themselves where it is kept in the database. For one that lives in `organizations.yaml`, choose what stands there.
**Corrections** are entries made later (a late settlement, a corrected price); they count in the month, and on the day, of what
they correct.

*Plans*: `enterprise` and `pro` are invoiced by the month, `pay_as_you_go` has statements of weeks; `free` has nothing
here. History that a plan no longer keeps (`pay_as_you_go`: 90 days) is gone from the ledger, and from here.
"""


def invoice() -> Dashboard:
    made = shell.dashboard(
        shell.INVOICE,
        "tallygate / Invoice",
        "A month of an organization from the PostgreSQL ledger, equal to its invoice to the nano-dollar.",
        refresh="",
    ).timepicker(TimePicker().hidden(hidden=True))
    for variable in (
        variables.ledger_choice(),
        variables.sql_choice("organization", "Organization", ledger_sql.ORGANIZATIONS, "Whose invoice"),
        variables.sql_choice("month", "Month", ledger_sql.MONTHS, "Calendar month in which the month begins"),
        variables.sql_choice("time_zone", "Billing time zone", ledger_sql.TIME_ZONES, "In which months and days begin"),
        variables.sql_choice("billing_day", "Billing day", ledger_sql.BILLING_DAYS, "On which months begin"),
    ):
        made = made.with_variable(variable)
    return lay_out(made, _sections())


def _sections() -> list[Section]:
    return [
        Section(bands=[Band(panels=_figures(), height=4), Band(panels=[_daily(), _monthly()], height=9, widths=[15, 9])]),
        Section(
            title="By credential, capability and model",
            bands=[
                Band(panels=_broken_down(), height=8),
                Band(panels=[_models()], height=8),
                Band(panels=[_credential_models()], height=9),
            ],
        ),
        Section(title="The invoice's lines", bands=[Band(panels=[_lines()], height=10), Band(panels=[_corrections()], height=7)]),
        Section(title="What these numbers mean", bands=[Band(panels=[words("", _WORDS)], height=7)]),
    ]


def _figures() -> list[Panel]:
    def number(title: str, description: str, statement: str, unit: str = look.EACH) -> stat.Panel:
        made = panels.figure(title, description, unit=unit).with_target(SqlQuery(statement).ref_id("A"))
        return made.datasource(ledger_source()).no_value(_NOTHING)

    return [
        number("Total", f"Everything the month cost, corrections included. {_SAME}", ledger_sql.figure("cost_nano_usd"), look.USD),
        number("Requests", f"Forwarded requests. {_SAME}", ledger_sql.figure("requests")),
        number("Prompt tokens", f"Cached ones included. {_SAME}", ledger_sql.figure("prompt_tokens")),
        number("Completion tokens", f"Reasoning included. {_SAME}", ledger_sql.figure("completion_tokens")),
        number(
            "Corrections in it",
            "What entries that were made later added or took back.",
            ledger_sql.figure("cost_nano_usd", only_corrections=True),
            look.USD,
        ),
        number("The month", "Whether it is over in the billing time zone.", ledger_sql.status_of_month()).reduce_options(
            ReduceDataOptions().calcs(["lastNotNull"]).fields("/.*/").values(values=False)
        ),
    ]


def _daily() -> Panel:
    made = (
        barchart.Panel()
        .title("Cost by day")
        .description("Days of the billing time zone; a correction counts on the day of what it corrects.")
    )
    return (
        made.datasource(ledger_source())
        .unit(look.USD)
        .no_value(_NOTHING)
        .min(0)
        .show_value(VisibilityMode.NEVER)
        .line_width(1)
        .x_field("Day")
        .x_tick_label_rotation(-45)
        .with_target(SqlQuery(ledger_sql.daily()).ref_id("A"))
    )


def _monthly() -> Panel:
    return _table("Months", "The month chosen and the twelve before it, in the billing time zone.", ledger_sql.monthly())


def _broken_down() -> list[Panel]:
    return [
        _table("By credential", "Client IDs, corrections included.", ledger_sql.month_by({"credential": "Credential"})),
        _table("By capability", "Kinds of service, corrections included.", ledger_sql.month_by({"capability": "Capability"})),
    ]


def _models() -> Panel:
    return _table(
        "By model",
        "The model that answered, else the one asked for; empty where there is none.",
        ledger_sql.month_by({"model": "Model"}),
    )


def _credential_models() -> Panel:
    return _table(
        "By credential and model",
        "What each Client ID used each model for, dearest first, corrections included.",
        ledger_sql.month_by({"credential": "Credential", "model": "Model"}),
    )


def _lines() -> Panel:
    return _table("Lines", "As the invoice has them: entries as they were first made.", ledger_sql.month_lines(corrections=False))


def _corrections() -> Panel:
    made = _table("Corrections", "Entries that were made later, and why.", ledger_sql.month_lines(corrections=True))
    return made.no_value("No corrections")


def _table(title: str, description: str, statement: str) -> table.Panel:
    made = table.Panel().title(title).unit(look.EACH).description(description).datasource(ledger_source()).no_value(_NOTHING)
    return (
        made.show_header(show_header=True)
        .with_target(SqlQuery(statement).ref_id("A"))
        .override_by_name(
            "Cost", [DynamicConfigValue(id_val="unit", value=look.USD), DynamicConfigValue(id_val="decimals", value=2)]
        )
        .override_by_name("Cost, exact", [DynamicConfigValue(id_val="custom.align", value="right")])
    )
