"""SQL that is compiled once for all SQLite ledgers of a run: each engine would compile its own, longer than most tests take."""

from typing import Any, ClassVar, Self

from sqlalchemy import Engine
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite


class SharedDialect(SQLiteDialect_aiosqlite):
    """One instance, since compiled statements are kept by dialect."""

    supports_statement_cache = True
    _only: ClassVar[Self | None] = None
    _compiled: ClassVar[dict[Any, Any]] = {}

    def __new__(cls, **_options: Any) -> Self:
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cls._only

    def __init__(self, **options: Any) -> None:
        if not hasattr(self, "dbapi"):
            super().__init__(**options)

    @classmethod
    def engine_created(cls, engine: Engine) -> None:
        engine.update_execution_options(compiled_cache=cls._compiled)


def share_statements() -> None:
    registry.register("sqlite.aiosqlite", __name__, SharedDialect.__name__)
