"""Telling operators that an organization nears a spend limit: once per crossing, in the log and as a metric."""

import logging

from tallygate.domain.admission import AdmissionRequest, Warned
from tallygate.telemetry.metric import Metrics
from tallygate.telemetry.metrics import SPEND_WARNINGS

_log = logging.getLogger(__name__)


def tell_warned(metrics: Metrics, admission: AdmissionRequest, warned: Warned) -> None:
    """One threshold crossed by a settlement of this admission."""
    limit = next(demand.limit.name for demand in admission.spend if demand.key == warned.key)
    _log.warning("organization %s has spent %g %% of its limit %s", admission.org, warned.permille / 10, limit)
    metrics.inc(SPEND_WARNINGS, admission.org, limit, f"{warned.permille / 1000:g}")
