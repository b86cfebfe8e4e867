"""When a process does what it does by the clock: all of it together.

To wake a process costs more than most of what it is woken for, and what is asked of the store in one turn of the loop is one write.
"""

import asyncio


def until_tick(every: float) -> float:
    """The seconds from now to the next whole multiple of `every` seconds on the loop's clock."""
    return every - asyncio.get_running_loop().time() % every
