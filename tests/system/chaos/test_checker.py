"""Every kind of lie is found in a history that is true but for it."""

from dataclasses import replace

import pytest

from chaos.checker import Answer, Entry, Finding, History, Lie, Served, excused_over, findings

COST = 5_000
TOKENS = (20, 8)


def an_answer(request_id: str, **changes: object) -> Answer:
    answer = Answer(request_id=request_id, org="acme", status=200, is_whole=True, tokens=TOKENS, nano_usd=COST)
    return replace(answer, **changes)


def an_entry(event_id: str, **changes: object) -> Entry:
    entry = Entry(
        event_id=event_id,
        org="acme",
        kind="settled",
        source="upstream",
        requests=1,
        tokens=TOKENS,
        nano_usd=COST,
        posted_nano_usd=COST,
    )
    return replace(entry, **changes)


def a_served(request_id: str) -> Served:
    return Served(request_id=request_id, tokens=TOKENS, nano_usd=COST)


NAMES = ("a", "b", "c")
ONCE = {"requests": 1, "prompt": TOKENS[0], "completion": TOKENS[1], "nano_usd": COST}
TRUE = History(
    answers=[an_answer(name) for name in NAMES],
    served=[a_served(name) for name in NAMES],
    entries=[an_entry(name) for name in NAMES],
    windows={"acme": (3 * COST, 0)},
    limits={"acme": 3 * COST},
    metrics=[{"acme": {name: 3 * amount for name, amount in ONCE.items()}}] * 2,
)


def with_sums_of_entries(history: History) -> History:
    """Limiter and consoles tell what the ledger does: the lie is in nothing but the exchanges."""
    entries = history.entries
    sums = {
        "requests": sum(entry.requests for entry in entries),
        "prompt": sum(entry.tokens[0] for entry in entries),
        "completion": sum(entry.tokens[1] for entry in entries),
        "nano_usd": sum(entry.nano_usd for entry in entries),
    }
    spent = sum(entry.posted_nano_usd for entry in entries)
    return replace(history, windows={"acme": (spent, 0)}, metrics=[{"acme": sums}] * 2, limits={"acme": 10 * COST})


def lies(history: History) -> set[tuple[Lie, str]]:
    return {(found.lie, found.where) for found in findings(history)}


def test_a_true_history_has_nothing_to_find() -> None:
    assert findings(TRUE) == []
    assert excused_over(TRUE) == 0


DOCTORED = {
    "an answer that the ledger never heard of": (replace(TRUE, entries=TRUE.entries[1:]), Lie.LOST, "a"),
    "work for a client that saw no end": (
        replace(TRUE, entries=TRUE.entries[1:], answers=[an_answer("a", is_whole=False), *TRUE.answers[1:]]),
        Lie.LOST,
        "a",
    ),
    "an answer that has only its checkpoint": (
        replace(TRUE, entries=[an_entry("a", kind="expired", source="checkpoint"), *TRUE.entries[1:]]),
        Lie.LOST,
        "a",
    ),
    "one exchange entered twice": (replace(TRUE, entries=[*TRUE.entries, an_entry("b")]), Lie.DOUBLED, "b"),
    "a second final entry that counts no request": (
        replace(TRUE, entries=[*TRUE.entries, an_entry("b", requests=0, nano_usd=0, posted_nano_usd=0)]),
        Lie.DOUBLED,
        "b",
    ),
    "a checkpoint entered twice": (
        replace(
            TRUE,
            answers=[an_answer("a", is_whole=False), *TRUE.answers[1:]],
            entries=[an_entry("a", kind="expired", source="checkpoint")] * 2 + TRUE.entries[1:],
        ),
        Lie.DOUBLED,
        "a",
    ),
    "one request sent twice": (replace(TRUE, served=[*TRUE.served, a_served("c")]), Lie.DOUBLED, "c"),
    "a charge for a refusal": (
        replace(
            TRUE,
            answers=[*TRUE.answers, an_answer("d", status=503)],
            entries=[*TRUE.entries, an_entry("d", kind="expired", source="checkpoint")],
        ),
        Lie.INVENTED,
        "d",
    ),
    "a settlement of nothing": (replace(TRUE, entries=[*TRUE.entries, an_entry("e")]), Lie.INVENTED, "e"),
    "an answer from nowhere": (replace(TRUE, answers=[*TRUE.answers, an_answer("f")]), Lie.INVENTED, "f"),
    "a cost that is not the served one": (
        replace(TRUE, entries=[an_entry("a", nano_usd=COST + 1, posted_nano_usd=COST + 1), *TRUE.entries[1:]]),
        Lie.MISPRICED,
        "a",
    ),
    "a cost of what the upstream stated to a client that left": (
        replace(
            TRUE,
            answers=[an_answer("a", is_whole=False), *TRUE.answers[1:]],
            entries=[an_entry("a", nano_usd=COST + 1, posted_nano_usd=COST + 1), *TRUE.entries[1:]],
        ),
        Lie.MISPRICED,
        "a",
    ),
    "a usage that is not the served one": (
        replace(
            TRUE,
            answers=[an_answer("a", tokens=None), *TRUE.answers[1:]],
            entries=[an_entry("a", tokens=(21, 8)), *TRUE.entries[1:]],
        ),
        Lie.MISPRICED,
        "a",
    ),
    "a checkpoint below what was generated": (
        replace(
            TRUE,
            answers=[an_answer("a", is_whole=False), *TRUE.answers[1:]],
            entries=[
                an_entry("a", kind="expired", source="checkpoint", nano_usd=COST - 1, posted_nano_usd=COST - 1),
                *TRUE.entries[1:],
            ],
        ),
        Lie.MISPRICED,
        "a",
    ),
    "a cost that the client was not told": (
        replace(TRUE, answers=[an_answer("a", nano_usd=COST - 1), *TRUE.answers[1:]]),
        Lie.MISPRICED,
        "a",
    ),
    "a usage that the client was not told": (
        replace(TRUE, answers=[an_answer("a", tokens=(20, 9)), *TRUE.answers[1:]]),
        Lie.MISPRICED,
        "a",
    ),
    "an amount that was charged and not posted": (
        replace(TRUE, entries=[an_entry("a", posted_nano_usd=COST - 1), *TRUE.entries[1:]]),
        Lie.UNEQUAL,
        "a",
    ),
}


@pytest.mark.parametrize("name", DOCTORED)
def test_a_lie_about_an_exchange_is_found(name: str) -> None:
    history, lie, where = DOCTORED[name]

    found = lies(with_sums_of_entries(history))
    assert (lie, where) in found
    assert {place for _, place in found} == {where}


def test_one_request_too_many_for_its_limit_is_found() -> None:
    over = replace(TRUE, limits={"acme": 3 * COST - 1})

    assert lies(over) == {(Lie.OVER, "acme")}


def test_what_a_store_lost_may_be_above_the_limit_and_no_more() -> None:
    unheld = [an_entry("a", kind="unheld"), *TRUE.entries[1:]]

    assert findings(replace(TRUE, entries=unheld, limits={"acme": 2 * COST})) == []
    assert excused_over(replace(TRUE, entries=unheld, limits={"acme": 2 * COST})) == COST
    assert lies(replace(TRUE, entries=unheld, limits={"acme": 2 * COST - 1})) == {(Lie.OVER, "acme")}


@pytest.mark.parametrize("window", [(3 * COST - 1, 0), (3 * COST + 1, 0), (3 * COST, 1)], ids=["less", "more", "held"])
def test_a_window_that_is_not_the_ledger_is_found(window: tuple[int, int]) -> None:
    assert lies(replace(TRUE, windows={"acme": window})) == {(Lie.UNEQUAL, "acme")}


@pytest.mark.parametrize("name", ["requests", "prompt", "completion", "nano_usd"])
def test_a_console_that_tells_otherwise_is_found(name: str) -> None:
    told = {"acme": {**TRUE.metrics[0]["acme"], name: 1}}

    assert findings(replace(TRUE, metrics=[TRUE.metrics[0], told]))[0].lie is Lie.UNEQUAL


@pytest.mark.parametrize(
    ("answer", "kind", "source"),
    [
        ({"status": 0, "is_whole": False}, "expired", "checkpoint"),
        ({"status": 503, "code": "shutting_down"}, "settled", "assumed"),
    ],
    ids=["killed", "told to end at once"],
)
def test_a_worker_that_ended_before_anybody_could_know_is_no_lie(answer: dict[str, object], kind: str, source: str) -> None:
    entries = [*TRUE.entries, an_entry("d", kind=kind, source=source)]
    ended = with_sums_of_entries(replace(TRUE, answers=[*TRUE.answers, an_answer("d", **answer)], entries=entries))

    assert findings(ended) == []
    assert lies(replace(ended, answers=[*TRUE.answers, an_answer("d", status=503, code="limiter_unavailable")])) == {
        (Lie.INVENTED, "d")
    }
    stated = with_sums_of_entries(replace(ended, entries=[*TRUE.entries, an_entry("d")]))
    assert lies(stated) == {(Lie.INVENTED, "d")}


@pytest.mark.parametrize(("org", "is_whole", "is_lost"), [("big", False, False), ("big", True, True), ("acme", False, True)])
def test_what_only_a_killed_worker_knew_of_may_be_lost(org: str, is_whole: bool, is_lost: bool) -> None:
    """What has not ended, of an organization without a spend limit, which is served on while the store is away."""
    answers = [an_answer("a", org=org, is_whole=is_whole), *TRUE.answers[1:]]
    history = with_sums_of_entries(replace(TRUE, answers=answers, entries=TRUE.entries[1:]))
    assert lies(history) == ({(Lie.LOST, "a")} if is_lost else set())


@pytest.mark.parametrize(("source", "tokens"), [("counted", (20, 6)), ("estimated", (20, 0))])
def test_a_stream_that_was_cut_costs_what_came_of_it(source: str, tokens: tuple[int, int]) -> None:
    counted = an_entry("a", source=source, tokens=tokens, nano_usd=COST - 1, posted_nano_usd=COST - 1)
    cut = replace(TRUE, answers=[an_answer("a", is_whole=False), *TRUE.answers[1:]], entries=[counted, *TRUE.entries[1:]])

    assert findings(with_sums_of_entries(cut)) == []
    assert lies(with_sums_of_entries(replace(cut, answers=TRUE.answers))) == {(Lie.MISPRICED, "a")}


def test_a_late_word_that_takes_the_place_of_a_checkpoint_is_no_lie() -> None:
    expired = an_entry("a", kind="expired", source="checkpoint", tokens=(20, 64), nano_usd=9 * COST, posted_nano_usd=9 * COST)
    late = an_entry("a", kind="late", requests=0, tokens=(0, -56), nano_usd=-8 * COST, posted_nano_usd=-8 * COST)

    assert findings(with_sums_of_entries(replace(TRUE, entries=[expired, late, *TRUE.entries[1:]]))) == []


def test_a_finding_says_what_where_and_why() -> None:
    assert str(Finding(Lie.LOST, "a", "why")) == "lost: a: why"
