"""MariaDB sessions: how every room connects to a monolith on MariaDB, and the one translation of what its driver says.

Values arrive as the server wrote them (text, or bytes of binary columns): what they mean is for the rooms to say. The
driver is an extra, imported when it is first needed. Its calls block, so each session runs on one thread of its own.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

from stranglerfig.foundation.errors import FigError

if TYPE_CHECKING:
    import pymysql

T = TypeVar("T")

SCHEMES: Final = ("mysql", "mariadb")
Value = str | bytes | None
Row = tuple[Value, ...]
Params = Sequence[Any] | Mapping[str, Any] | None
"""Of a statement; a tuple among them is a list in brackets."""
Statement = tuple[str, Params]


class Answer(NamedTuple):
    """What a statement gave: how many rows it touched, and those it asked for."""

    touched: int
    rows: list[Row]


NOWHERE: Final = (1146, 1049)
"""Error numbers of a table, and of a database, that is not there; see :func:`refused`."""
_CONNECT_SECONDS: Final = 5
# What a server says when it cannot serve us any more: too many connections, shutting down, killed … (MariaDB's manual,
# "Error codes"). From 2000 on it is the client that speaks, of a lost connection.
_AWAY: Final = frozenset({1040, 1053, 1129, 1130, 1203, 1226, 1927})
_CLIENT: Final = range(2000, 3000)
_PACKET_CHARACTERS: Final = 1_000_000
"""Of statements that are sent together; a server's max_allowed_packet is 16 MiB unless it was made smaller."""
_SETTINGS: Final = (
    "SET SESSION time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION',"
    " net_write_timeout = 3600, net_read_timeout = 3600"
)


def is_mysql(dsn: str) -> bool:
    """Whether an address is one of this dialect."""
    return dsn.partition("://")[0] in SCHEMES


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of ``mysql://user:password@host:3306/database``."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str


def parse(dsn: str) -> Address:
    """The parts of an address.

    Raises:
        FigError: ``bad_address`` (never shown: it may hold a password).
    """
    try:
        parts = urlsplit(dsn)
        port = parts.port or 3306
    except ValueError:
        parts, port = urlsplit(""), 0
    database = parts.path.removeprefix("/")
    if parts.scheme not in SCHEMES or not parts.hostname or not database or "/" in database or parts.query:
        raise FigError(
            "bad_address",
            "what the configuration gives is not the address of a MariaDB (it is not shown: it may hold a password)",
            "Write it as mysql://user:password@host:3306/database; options behind a ? are not known.",
        )
    return Address(
        parts.hostname,
        port,
        unquote(parts.username or ""),
        unquote(parts.password or ""),
        unquote(database),
    )


def describe(dsn: str) -> str:
    """Where an address points, without its secrets: ``shop@127.0.0.1:3306/shop``."""
    to = parse(dsn)
    return f"{to.user}@{to.host}:{to.port}/{to.database}"


def quote(name: str) -> str:
    """A name as an SQL identifier."""
    return "`" + name.replace("`", "``") + "`"


def literal(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def quote_table(qualified: str) -> str:
    """``database.table`` as SQL identifiers."""
    database, _, name = qualified.partition(".")
    return f"{quote(database)}.{quote(name)}"


def _driver() -> Any:
    try:
        import pymysql
        import pymysql.cursors
    except ImportError as error:
        raise FigError(
            "backend_not_installed",
            "the driver for MariaDB is not installed here",
            "pip install stranglerfig[mysql]",
            package="pymysql",
        ) from error
    return pymysql


def _packets(texts: Sequence[str]) -> Iterator[list[str]]:
    """Statements in groups that a server takes at once."""
    group: list[str] = []
    size = 0
    for text in texts:
        if group and size + len(text) > _PACKET_CHARACTERS:
            yield group
            group, size = [], 0
        group.append(text)
        size += len(text)
    if group:
        yield group


def refused(error: FigError, *numbers: int) -> bool:
    """Whether ``error`` is the server's refusal with one of these error numbers."""
    return error.code == "statement_refused" and error.context.get("errno") in numbers


class Connection:
    """A session, in autocommit, in UTC. Statements of several users follow one another; a transaction has one user.

    Args:
        several: whether it may run :meth:`exchange`.
        answer_seconds: after which a server that does not answer counts as gone; None: never.

    Every method raises ``FigError``: ``database_unreachable``; ``statement_refused`` with ``errno`` and ``sqlstate``.
    """

    def __init__(self, dsn: str, what: str, *, several: bool = False, answer_seconds: float | None = None) -> None:
        self._dsn = dsn
        self._several = several
        self._answer_seconds = answer_seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"mariadb {what}")
        self._what = what
        self._raw: pymysql.Connection[Any] | None = None
        self._lost = False
        self._in_transaction = False

    @property
    def in_transaction(self) -> bool:
        """Whether this is within the block of :meth:`transaction`, whatever the server ended meanwhile."""
        return self._in_transaction

    @property
    def lost(self) -> bool:
        """Whether the session is over, and with it what was not committed."""
        return self._lost

    async def open(self) -> None:
        """Connect."""
        driver = _driver()
        to = parse(self._dsn)

        def connect() -> None:
            self._raw = driver.connect(
                host=to.host,
                port=to.port,
                user=to.user,
                password=to.password,
                database=to.database,
                charset="utf8mb4",
                autocommit=True,
                connect_timeout=_CONNECT_SECONDS if self._answer_seconds is None else self._answer_seconds,
                read_timeout=self._answer_seconds,
                program_name=f"fig:{self._what}",
                init_command=_SETTINGS,
                conv=dict(driver.converters.encoders),  # nothing to decode with: values stay as they are sent
                client_flag=driver.constants.CLIENT.MULTI_STATEMENTS if self._several else 0,
            )

        await self._run(connect)

    async def execute(self, statement: str, params: Params = None) -> int:
        """Run a statement; how many rows it touched."""
        return await self._run(lambda: self._rows(statement, params)[0])

    async def fetch(self, statement: str, params: Params = None) -> list[Row]:
        """All rows of a statement."""
        return await self._run(lambda: self._rows(statement, params)[1])

    async def one(self, statement: str, params: Params = None) -> Row | None:
        """The first row of a statement, or None."""
        rows = await self.fetch(statement, params)
        return rows[0] if rows else None

    async def value(self, statement: str, params: Params = None) -> Value:
        """The first column of the first row, or None."""
        row = await self.one(statement, params)
        return None if row is None else row[0]

    def _rows(self, statement: str, params: Params) -> tuple[int, list[Row]]:
        assert self._raw is not None
        with self._raw.cursor() as cursor:
            count = cursor.execute(statement, params)
            return count, list(cursor.fetchall())

    async def exchange(self, statements: Sequence[Statement]) -> list[Answer]:
        """Run statements one after the other without waiting for the server in between; what each gave.

        Only for sessions made with ``several``. The one that is refused ends it: those behind it are not run, and the
        error's context says its ``number``, from 0 on.
        """
        answers: list[Answer] = []
        try:
            for texts in _packets([self._written(*each) for each in statements]):
                await self._run(lambda texts=texts: self._exchange(texts, answers))  # type: ignore[misc]
        except FigError as error:
            error.context["number"] = len(answers)
            raise
        return answers

    def _written(self, statement: str, params: Params) -> str:
        """A statement with its parameters in place, as the driver quotes them."""
        assert self._raw is not None
        with self._raw.cursor() as cursor:
            return str(cursor.mogrify(statement, params))

    def _exchange(self, texts: Sequence[str], answers: list[Answer]) -> None:
        assert self._raw is not None
        with self._raw.cursor() as cursor:
            answers.append(Answer(cursor.execute(";\n".join(texts)), list(cursor.fetchall())))
            while cursor.nextset():
                answers.append(Answer(cursor.rowcount, list(cursor.fetchall())))

    async def stream(self, statement: str, *, rows: int) -> AsyncGenerator[list[Row]]:
        """The rows of a statement as the server sends them, at most ``rows`` at a time.

        Close it (``aclosing``): one that is not read to its end ends the session.
        """
        driver = _driver()

        def begin() -> Any:
            assert self._raw is not None
            cursor = self._raw.cursor(driver.cursors.SSCursor)
            cursor.execute(statement)
            return cursor

        cursor = await self._run(begin)
        whole = False
        try:
            while found := await self._run(lambda: cursor.fetchmany(rows)):
                yield list(found)
            whole = True
        finally:
            if whole:
                await self._run(cursor.close)
            else:
                self._abandon()
                # The driver would read the rest to its end when it collects these, from a connection that is closed.
                if cursor._result is not None:
                    cursor._result.unbuffered_active = False
                cursor.connection = None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Committed at the block's end, rolled back when it raises."""
        await self.execute("START TRANSACTION")
        self._in_transaction = True
        try:
            yield
        except BaseException:
            with suppress(FigError):
                if not self._lost:
                    await self.execute("ROLLBACK")
            raise
        finally:
            self._in_transaction = False
        await self.execute("COMMIT")

    async def _run(self, work: Callable[[], T]) -> T:
        driver = _driver()
        if self._lost:
            raise unreachable(self._dsn, "the session was ended")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except asyncio.CancelledError:
            # The thread still waits for its answer, which nobody will hear.
            self._abandon()
            raise
        except driver.Error as error:
            raise self._told(error) from error
        except OSError as error:
            self._lost = True
            raise unreachable(self._dsn, error) from error

    def _told(self, error: pymysql.Error) -> FigError:
        number, said = (*error.args, 0, "")[:2]
        opening = self._raw is None
        if opening or not isinstance(number, int) or not number or number in _AWAY or number in _CLIENT:
            self._lost = True
            return unreachable(self._dsn, said or number or error)
        return FigError(
            "statement_refused",
            f"the database {describe(self._dsn)} refuses a statement: {said}",
            "The message names what is missing or wrong; see fig plan for the rights that are needed.",
            errno=number,
            sqlstate=error.sqlstate or "",
        )

    def _abandon(self) -> None:
        """End the session from outside its thread, which may be waiting for the server."""
        self._lost = True
        found: socket.socket | None = getattr(self._raw, "_sock", None)
        if found is not None:
            with suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)  # closing alone does not wake who waits on it

    async def close(self) -> None:
        """End the session; never fails."""
        raw, self._raw = self._raw, None

        def end() -> None:
            if raw is not None:
                with suppress(Exception):
                    raw.close()

        await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, end))
        self._thread.shutdown(wait=False)


def unreachable(dsn: str, why: object) -> FigError:
    """The one sentence for a database that does not answer."""
    return FigError(
        "database_unreachable",
        f"the database {describe(dsn)} cannot be reached: {why}",
        "Check that the server runs and that the address, user and password in the configuration are right.",
        database=describe(dsn),
    )


@asynccontextmanager
async def session(dsn: str, *, what: str, several: bool = False) -> AsyncIterator[Connection]:
    """A session for the length of a block; closed whatever happens. ``several`` lets it run ``exchange``.

    Raises:
        FigError: ``database_unreachable``, ``backend_not_installed``, ``bad_address``.
    """
    conn = Connection(dsn, what, several=several)
    try:
        await conn.open()
        yield conn
    finally:
        await conn.close()
