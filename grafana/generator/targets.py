"""Queries as a panel holds them."""

from typing import Any, Final

from grafana_foundation_sdk.builders.prometheus import Dataquery as PrometheusQuery
from grafana_foundation_sdk.cog import builder, variants
from grafana_foundation_sdk.models.dashboard import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat, QueryEditorMode

PROMETHEUS: Final = "prometheus"
POSTGRESQL: Final = "grafana-postgresql-datasource"


def metrics_source() -> DataSourceRef:
    return DataSourceRef(type_val=PROMETHEUS, uid="${datasource}")


def ledger_source() -> DataSourceRef:
    return DataSourceRef(type_val=POSTGRESQL, uid="${ledger}")


def over_time(expression: str, legend: str, *, step: str = "", exemplars: bool = False) -> PrometheusQuery:
    """A range query. step: the least interval between its points."""
    query = _query(expression, legend).range()
    if step:
        query = query.interval(step)
    return query.exemplar(exemplar=True) if exemplars else query


def at_the_end(expression: str, legend: str = "") -> PrometheusQuery:
    """An instant query at the end of the range."""
    return _query(expression, legend).instant()


def column(expression: str) -> PrometheusQuery:
    """An instant query whose labels become columns of a table."""
    return _query(expression, "").instant().format(PromQueryFormat.TABLE)


def _query(expression: str, legend: str) -> PrometheusQuery:
    query = PrometheusQuery().expr(expression).datasource(metrics_source()).editor_mode(QueryEditorMode.CODE)
    return query.legend_format(legend) if legend else query


class _Sql(variants.Dataquery):
    """A statement for Grafana's PostgreSQL data source, which the SDK does not have."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.ref_id = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "datasource": ledger_source(),
            "editorMode": "code",
            "format": "table",
            "rawQuery": True,
            "rawSql": self.text,
            "refId": self.ref_id,
        }


class SqlQuery(builder.Builder[variants.Dataquery]):
    def __init__(self, text: str) -> None:
        self._query = _Sql(text)

    def ref_id(self, ref_id: str) -> "SqlQuery":
        self._query.ref_id = ref_id
        return self

    def build(self) -> variants.Dataquery:
        return self._query
