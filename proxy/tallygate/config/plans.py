"""plans.yaml: what each plan allows."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tallygate.config.declared import read_declared
from tallygate.config.limits import StatedSpendLimit, read_rate_limits, read_spend_limits
from tallygate.config.section import Place, Section
from tallygate.domain.organization import PLAN_FIELDS, Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedPlan:
    """A plan, the bounds within which an organization may change its spend limits, and its place, for later problems."""

    plan: Plan
    spend: tuple[StatedSpendLimit, ...]
    place: Place


def read_plans(document: Section, *, capabilities: Collection[str]) -> Mapping[str, StatedPlan]:
    """Parse the plans by name. capabilities: those that exist."""
    found = {}
    document.require("plans")
    for name, section in document.named_sections("plans", is_path_kept=False):
        found[name] = _read_plan(name, section, capabilities)
        section.close()
    document.close()
    return found


def _read_plan(name: str, section: Section, capabilities: Collection[str]) -> StatedPlan:
    spend = read_spend_limits(section, has_max=True)
    plan = Plan(
        id=name,
        rate_limits=read_rate_limits(section),
        spend_limits=tuple(stated.limit for stated in spend),
        **read_declared(section, PLAN_FIELDS, capabilities=capabilities),
    )
    return StatedPlan(plan=plan, spend=spend, place=section.place)
