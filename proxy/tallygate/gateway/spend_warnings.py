"""Telling operators that an organization nears a spend limit: once per crossing, in the log and as a metric."""

import logging

from tallygate.domain.admission import AdmissionRequest, Warned
from tallygate.gateway.services import Observer

_log = logging.getLogger(__name__)


def tell_warned(metrics: Observer, admission: AdmissionRequest, warned: Warned) -> None:
    """One threshold crossed by a settlement of this admission."""
    limit = next(demand.limit.name for demand in admission.spend if demand.key == warned.key)
    _log.warning("organization %s has spent %g %% of its limit %s", admission.org, warned.permille / 10, limit)
    metrics.spend_warned(admission.org, limit, warned.permille)
