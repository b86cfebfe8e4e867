"""Invoices that tests and goldens share."""

from tallygate.ledger.entry import Kind
from tallygate.ledger.invoice.billing_period import BillingPeriod
from tallygate.ledger.invoice.invoice import Amounts, Invoice, Line

_MODELS = ("claude-sonnet-4-5-20250929", "gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18", "text-embedding-3-small")


def a_line(credential="acme-prod", capability="chat", model=_MODELS[1], correction=None, **amounts):
    return Line(credential=credential, capability=capability, model=model, correction=correction, amounts=Amounts(**amounts))


def an_invoice(**changed):
    """Acme's November: two credentials, corrections of two kinds, texts that must be escaped."""
    fields = {
        "org": "acme",
        "name": "Acme <Research> & Sons",
        "period": BillingPeriod.month("2026-11", "America/New_York"),
        "usage": (
            a_line(
                requests=48_211,
                prompt_tokens=91_402_118,
                cached_tokens=40_118_022,
                completion_tokens=12_884_201,
                cost_nano_usd=1_207_441_003_125,
            ),
            a_line(
                model=_MODELS[0],
                requests=2_114,
                prompt_tokens=8_220_013,
                completion_tokens=1_220_498,
                reasoning_tokens=220_001,
                cost_nano_usd=42_967_509_000,
            ),
            a_line(
                capability="embeddings", model=_MODELS[3], requests=120_400, prompt_tokens=60_118_200, cost_nano_usd=1_202_364_000
            ),
            a_line(capability="models", model="", requests=77),
            a_line(
                credential="=cmd|'/c calc'!A1",
                model=_MODELS[2],
                requests=9,
                prompt_tokens=4_031,
                completion_tokens=902,
                cost_nano_usd=1_145_851,
            ),
        ),
        "corrections": (
            a_line(correction=Kind.REPRICED, cost_nano_usd=-18_220_113_401),
            a_line(
                model=_MODELS[0],
                correction=Kind.REVERSED,
                requests=-1,
                prompt_tokens=-4_000,
                completion_tokens=-17,
                cost_nano_usd=-12_255_000,
            ),
            a_line(
                model=_MODELS[0],
                correction=Kind.LATE,
                requests=1,
                prompt_tokens=4_000,
                completion_tokens=512,
                cost_nano_usd=19_680_000,
            ),
        ),
        "last_entry_ms": 1_796_300_000_000,
        "is_provisional": False,
    }
    return Invoice(**{**fields, **changed})
