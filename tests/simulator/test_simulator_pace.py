"""Generated tokens come when they are due."""

from tallygate.simulator.pace import EVENTS_PER_TURN, Pace


class Time:
    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


async def test_the_first_token_waits_for_the_delay_and_the_others_come_evenly() -> None:
    time = Time()
    pace = Pace(delay_ms=500, tps=4, now=lambda: time.now, sleep=time.sleep)

    for generated in (0, 1, 2, 3):
        await pace.until(generated)

    assert time.slept == [0.5, 0.0, 0.25, 0.25]


async def test_a_late_wake_up_is_made_good() -> None:
    time = Time()
    pace = Pace(delay_ms=0, tps=4, now=lambda: time.now, sleep=time.sleep)
    time.now += 0.6

    await pace.until(3)
    await pace.until(4)

    assert time.slept[0] == 0.0
    assert abs(time.slept[1] - 0.15) < 1e-9


async def test_without_a_pace_others_still_get_their_turn() -> None:
    time = Time()
    pace = Pace(delay_ms=0, tps=0, now=lambda: time.now, sleep=time.sleep)

    for generated in range(4 * EVENTS_PER_TURN):
        await pace.until(generated)

    assert time.slept == [0.0] * 4
