"""What is provisioned fits together: data sources of the kinds that dashboards choose from, a reader of tables that exist."""

import re
from pathlib import Path

import yaml
from dashboard_files import NAMES, variables

import tallygate.ledger.directory.schema  # noqa: F401 -- adds its tables to the ledger's
from tallygate.ledger.schema import METADATA

GRAFANA = Path(__file__).parents[2] / "grafana"
README = (GRAFANA / "README.md").read_text(encoding="utf-8")
SOURCES = GRAFANA / "provisioning" / "datasources" / "tallygate.yaml"


def test_every_kind_of_source_that_dashboards_choose_from_is_provisioned() -> None:
    provisioned = {source["type"] for source in yaml.safe_load(SOURCES.read_text(encoding="utf-8"))["datasources"]}
    chosen_from = {variable["query"] for name in NAMES for variable in variables(name) if variable["type"] == "datasource"}
    assert provisioned == chosen_from


def test_rates_are_taken_over_scrapes_as_prometheus_makes_them() -> None:
    scrape = yaml.safe_load((GRAFANA.parent / "config" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    (source,) = [one for one in yaml.safe_load(SOURCES.read_text(encoding="utf-8"))["datasources"] if one["type"] == "prometheus"]
    assert source["jsonData"]["timeInterval"] == scrape["global"]["scrape_interval"]


def test_every_environment_variable_is_explained() -> None:
    named = set(re.findall(r"\$\{(\w+)\}", SOURCES.read_text(encoding="utf-8")))
    assert named
    assert all(f"`{name}`" in README for name in named)


def test_dashboards_are_mounted_where_they_are_looked_for() -> None:
    (provider,) = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "tallygate.yaml").read_text(encoding="utf-8"))[
        "providers"
    ]
    assert f"grafana/dashboards                ->  {provider['options']['path']}" in README
    assert all(f"`{name}.json`" in README for name in NAMES)


def test_the_reader_is_granted_tables_that_exist() -> None:
    statements = (GRAFANA / "provisioning" / "reader.sql").read_text(encoding="utf-8")
    granted = re.findall(r"GRANT SELECT (?:\(([\w, ]+)\) )?ON ([\w, ]+) TO", statements)
    assert granted
    for columns, tables in granted:
        for table in tables.split(", "):
            assert set(filter(None, columns.split(", "))) <= {column.name for column in METADATA.tables[table].columns}
