"""The choices at the top of a dashboard."""

from typing import Any, Final

from grafana_foundation_sdk.builders.dashboard import CustomVariable, DatasourceVariable, QueryVariable
from grafana_foundation_sdk.models.dashboard import VariableOption, VariableRefresh, VariableSort

from grafana.generator.targets import POSTGRESQL, PROMETHEUS, ledger_source, metrics_source

ANYTHING: Final = ".+"  # what All stands for: one short pattern, however many organizations there are


def metrics_choice() -> DatasourceVariable:
    return DatasourceVariable("datasource").label("Prometheus").description("Which Prometheus to ask").type(PROMETHEUS)


def ledger_choice() -> DatasourceVariable:
    return DatasourceVariable("ledger").label("Ledger").description("Which PostgreSQL ledger to ask").type(POSTGRESQL)


def label_choice(name: str, label: str, series: str, of: str, description: str) -> QueryVariable:
    """Values of a label, any number of them, at first all."""
    query: dict[str, Any] = {
        "qryType": 1,
        "query": f"label_values({series}, {of})",
        "refId": "PrometheusVariableQueryEditor-VariableQuery",
    }
    return (
        QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(metrics_source())
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_CASE_INSENSITIVE_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(ANYTHING)
        .current(VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def sql_choice(name: str, label: str, statement: str, description: str) -> QueryVariable:
    """One value of a statement's only column, in the statement's order; at first the first."""
    return (
        QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(ledger_source())
        .query(statement)
        .refresh(VariableRefresh.ON_DASHBOARD_LOAD)
        .sort(VariableSort.DISABLED)
        .multi(multi=False)
        .include_all(include_all=False)
    )


def choice(name: str, label: str, options: dict[str, str], description: str, *, first: str) -> CustomVariable:
    """One of a few values. options: values by the words that are shown; first: the words chosen at first."""
    made = [VariableOption(selected=text == first, text=text, value=value) for text, value in options.items()]
    return (
        CustomVariable(name)
        .label(label)
        .description(description)
        .values(",".join(f"{text} : {value}" for text, value in options.items()))
        .options(made)
        .current(VariableOption(selected=True, text=first, value=options[first]))
        .multi(multi=False)
        .include_all(include_all=False)
    )


def organizations(series: str = "tallygate_requests_total") -> QueryVariable:
    return label_choice("organization", "Organization", series, "org", "Organizations that made at least one request")


def credentials() -> QueryVariable:
    series = 'tallygate_requests_total{org=~"$organization"}'
    return label_choice("credential", "Credential", series, "credential", "Client IDs of the organizations chosen")


def capabilities(series: str = 'tallygate_requests_total{org=~"$organization"}') -> QueryVariable:
    return label_choice("capability", "Capability", series, "capability", "Kinds of service: chat, embeddings, models ...")


def models() -> QueryVariable:
    series = 'tallygate_model_requests_total{org=~"$organization"}'
    return label_choice(
        "model", "Model", series, "model", "Models of the price catalogue; any other is `other`. Narrows the panel by model"
    )


def top() -> CustomVariable:
    return choice(
        "top", "Show", {f"Top {count}": str(count) for count in (5, 10, 20, 50)}, "How many lines a ranking has", first="Top 10"
    )
