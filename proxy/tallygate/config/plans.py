"""plans.yaml: what each plan allows."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from tallygate.config.limits import StatedSpendLimit, read_rate_limits, read_spend_limits
from tallygate.config.problems import nearest
from tallygate.config.section import Place, Section, duration_ms, show
from tallygate.domain.billing import PeriodKind
from tallygate.domain.organization import Plan, UnknownModelPolicy

OUTPUT_TOKENS_MAX: Final = 10_000_000
DAY_MS: Final = 86_400_000
_BILLINGS: Final = {"weekly": PeriodKind.WEEK, "monthly": PeriodKind.MONTH}


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedPlan:
    """A plan, the bounds within which an organization may change its spend limits, and where it stands for later problems."""

    plan: Plan
    spend: tuple[StatedSpendLimit, ...]
    place: Place


def read_plans(document: Section, *, capabilities: Collection[str]) -> Mapping[str, StatedPlan]:
    """The plans by name. capabilities: those that there are."""
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
        api_access=section.boolean("api_access", default=True),
        capabilities=_read_capabilities(section, capabilities),
        rate_limits=read_rate_limits(section),
        spend_limits=tuple(terms.limit for terms in spend),
        history_days=_read_history_days(section),
        export=section.boolean("export", default=False),
        billing=_BILLINGS.get(section.choice("billing", [*_BILLINGS])),
        default_output_tokens=section.integer("default_output_tokens", 4096, minimum=1, maximum=OUTPUT_TOKENS_MAX),
        unknown_input_tokens=(
            section.integer("unknown_input_tokens", minimum=0, maximum=OUTPUT_TOKENS_MAX)
            if "unknown_input_tokens" in section
            else None
        ),
        clamp=section.boolean("clamp", default=False) if "clamp" in section else None,
        clamp_floor_tokens=section.integer("clamp_floor_tokens", minimum=1, maximum=OUTPUT_TOKENS_MAX) or None,
        unknown_model=unknown_model,
        price_as=price_as,
    )
    return StatedPlan(plan=plan, spend=spend, place=section.place)


def _read_capabilities(section: Section, known: Collection[str]) -> frozenset[str] | None:
    """A list of those that the plan includes, or `{except: [...]}`; None where nothing is said."""
    if not section.is_mapping("capabilities"):
        stated = section.scalars("capabilities", may_be_empty=False)
        return None if stated is None else _known_capabilities(stated, known)
    inner = section.section("capabilities")
    if inner is None:
        return None
    inner.require("except")
    left = frozenset(known) - _known_capabilities(inner.scalars("except", may_be_empty=False) or [], known)
    inner.close()
    if not left:
        inner.place_of("except").problem("leaves no capability: a plan without any says `api_access: false`")
    return left


def _known_capabilities(stated: list[tuple[Place, str]], known: Collection[str]) -> frozenset[str]:
    for place, capability in stated:
        if capability not in known:
            place.problem(f"{show(capability)} is not a capability of any route{nearest(capability, known)}")
    return frozenset(capability for _, capability in stated)


def _read_history_days(section: Section) -> int | None:
    text = section.plain("history")
    if text is None or text == "unlimited":
        return None
    try:
        milliseconds = duration_ms(text)
    except ValueError:
        milliseconds = 0
    if not milliseconds or milliseconds % DAY_MS:
        section.place_of("history").problem(f"must be whole days such as 90d, or unlimited, got {text[:20]!r}")
        return None
    return milliseconds // DAY_MS


def _read_unknown_model(section: Section) -> tuple[UnknownModelPolicy, str | None]:
    """`refuse`, `unpriced`, or `{price_as: <model>}`."""
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
