"""Writes the Grafana dashboards: `python -m grafana.generator`, or `make dashboards`. A tool of the developers, not part of the
product.

One file a dashboard (usage, spend, health, invoice); the pieces that they share lie beside them. The JSON files are committed,
and a test compares them with what this makes.
"""
