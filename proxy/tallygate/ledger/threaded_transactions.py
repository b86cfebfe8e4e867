"""Transactions of SQLite, each in one turn of a thread."""

from collections.abc import Callable
from threading import Semaphore
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine

TURN_SECONDS: Final = 30.0  # for which a transaction waits for others of this process
_Result = TypeVar("_Result")


class ThreadedTransactions:
    """Transactions over connections that stay open. The driver itself begins and ends them.

    Where it is done once in a while, SQLAlchemy's way there and back takes 0.3 ms, since none of its code is in the processor's
    memory any more.

    begin   the statement
    most    of them at once; others wait, as for one whose caller was cancelled
    """

    def __init__(self, engine: Engine, begin: str, *, most: int) -> None:
        self.engine = engine
        self._begin = begin
        self._places = Semaphore(most)
        self._idle: list[Connection] = []

    def do(self, work: Callable[[Connection], _Result]) -> _Result:
        """Do work in a transaction: committed at its end, undone by an exception."""
        if not self._places.acquire(timeout=TURN_SECONDS):
            raise TimeoutError("others keep the database busy")
        try:
            return self._do(work)
        finally:
            self._places.release()

    def _do(self, work: Callable[[Connection], _Result]) -> _Result:
        connection = self._idle_one() or self.engine.connect()
        driver: Any = connection.connection.driver_connection
        try:
            driver.execute(self._begin)
            done = work(connection)
            driver.commit()
        except BaseException:
            driver.rollback()
            self._give_back(connection)
            raise
        self._give_back(connection)
        return done

    def _idle_one(self) -> Connection | None:
        try:
            return self._idle.pop()  # two threads may ask at once
        except IndexError:
            return None

    def _give_back(self, connection: Connection) -> None:
        if connection.in_transaction():
            connection.rollback()  # SQLAlchemy's own account of what is over
        self._idle.append(connection)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()
        self.engine.dispose()
