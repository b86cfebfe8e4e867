"""plans.yaml: what each plan allows."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tallygate.config.declared import read_declared
from tallygate.config.limits import StatedSpendLimit, read_rate_limits, read_spend_limits
from tallygate.config.section import Place, Section
from tallygate.domain.organization import PLAN_FIELDS, Plan, UnknownModelPolicy


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
    unknown_model, price_as = _read_unknown_model(section)
    plan = Plan(
        id=name,
        rate_limits=read_rate_limits(section),
        spend_limits=tuple(stated.limit for stated in spend),
        unknown_model=unknown_model,
        price_as=price_as,
        **read_declared(section, PLAN_FIELDS, capabilities=capabilities),
    )
    return StatedPlan(plan=plan, spend=spend, place=section.place)


def _read_unknown_model(section: Section) -> tuple[UnknownModelPolicy, str | None]:
    """Parse `refuse`, `unpriced`, or `{price_as: <model>}`."""
    if not section.is_mapping("unknown_model"):
        options = [UnknownModelPolicy.REFUSE.value, UnknownModelPolicy.UNPRICED.value]
        return UnknownModelPolicy(section.choice("unknown_model", options, UnknownModelPolicy.REFUSE)), None
    inner = section.section("unknown_model")
    if inner is None:
        return UnknownModelPolicy.REFUSE, None
    inner.require("price_as")
    model = inner.text("price_as") or None
    inner.close()
    return UnknownModelPolicy.PRICE_AS, model
