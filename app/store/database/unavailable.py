"""TODO."""

import socket
import ssl
from collections.abc import Iterator

from sqlalchemy.engine import URL
from sqlalchemy.exc import DataError as DataRefused
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.domain.errors import StoreUnavailable
from app.store.database.timeouts import WAIT_SECONDS

# Classes of PostgreSQL's errors that are a mistake of ours: cardinality, data, integrity, syntax and rights.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_OUR_MISTAKES = ("21", "22", "23", "42")


class _as_unavailable:  # noqa: N801 - reads as a word in a `with`
    """Turns what the driver raises when the database can't be used just now into `StoreUnavailable`.

    A statement or a value that it refuses is a mistake of ours and stays what it is.
    """

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, IntegrityError | DataRefused | ProgrammingError):
            return
        if isinstance(error, DBAPIError) and str(getattr(error.orig, "sqlstate", None) or "")[:2] in _OUR_MISTAKES:
            return
        if isinstance(error, DBAPIError | PoolTimeoutError):
            # The driver's own text may quote a statement; its class says enough.
            cause = type(error.orig).__name__ if isinstance(error, DBAPIError) else "no free connection"
            raise StoreUnavailable(f"The database could not be used ({cause}).") from error
        if isinstance(error, SQLAlchemyError | OSError):
            raise StoreUnavailable(f"The database could not be used ({type(error).__name__}).") from error


def driver_errors() -> tuple[type[Exception], ...]:
    """All that is raised where PostgreSQL can't be reached, or is lost; SQLAlchemy passes some of it on as it is."""
    import asyncpg

    return (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, DBAPIError)


def cause_of(error: BaseException) -> BaseException:
    """What the driver itself raised."""
    return error.driver_exception if isinstance(error, DBAPIError) else error


def why_unreachable(error: BaseException, url: URL, setting: str) -> tuple[str, str]:
    """What happened, and what to do about it, where no connection to PostgreSQL came about; without the password.

    Args:
        setting: what the URL was given in.
    """
    error = cause_of(error)
    host = url.host or "the local socket"
    words = {
        "where": f"{host}:{url.port or 5432}" if url.host else host,
        "host": host,
        "user": url.username or "of this process",
        "database": url.database,
        "setting": setting,
        "error": type(error).__name__,
        "detail": (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0],
    }
    happened, next_step = next(sentences for kind, *sentences in _unreachable() if isinstance(error, kind))
    return happened.format(**words), next_step.format(**words)


def _unreachable() -> Iterator[tuple[type[BaseException], str, str]]:
    """What each error of a connection means; the first that fits counts."""
    import asyncpg

    no_server = ("What answers at {where} speaks no PostgreSQL.", "Correct host and port in {setting}.")
    yield (
        asyncpg.InvalidPasswordError,
        "PostgreSQL at {where} does not take the password of the user {user}.",
        "Correct it in {setting}; signs such as @, : and / stand there as %40, %3A and %2F.",
    )
    yield (
        asyncpg.InvalidAuthorizationSpecificationError,
        "PostgreSQL at {where} does not let the user {user} in from here.",
        "Correct the user in {setting}, or let it in (CREATE ROLE, pg_hba.conf).",
    )
    yield (
        asyncpg.InvalidCatalogNameError,
        "PostgreSQL at {where} has no database {database}.",
        "Make it (CREATE DATABASE), or correct its name in {setting}.",
    )
    yield (
        asyncpg.InsufficientPrivilegeError,
        "The user {user} may not connect to the database {database} at {where}.",
        "Give it the right to (GRANT CONNECT ON DATABASE), or correct {setting}.",
    )
    yield (
        asyncpg.TooManyConnectionsError,
        "PostgreSQL at {where} has no connection left.",
        "Raise its max_connections, or end what holds them.",
    )
    yield asyncpg.CannotConnectNowError, "PostgreSQL at {where} starts or stops just now.", "Try again in a minute."
    yield asyncpg.PostgresConnectionError, *no_server
    yield (
        asyncpg.PostgresError,
        "PostgreSQL at {where} refuses the connection ({error}).",
        "See its log, and check {setting}.",
    )
    # Of the driver: what the URL asks for can't be done.
    yield asyncpg.InterfaceError, "No connection to {where} can be made ({detail}).", "Correct {setting}."
    yield (
        socket.gaierror,
        "The name {host} can't be looked up.",
        "Correct the host in {setting}, or check this machine's name server.",
    )
    yield (
        ConnectionRefusedError,
        "Nothing takes connections at {where}.",
        "Start PostgreSQL, or correct host and port in {setting}.",
    )
    yield (
        TimeoutError,
        f"Nothing answers at {{where}} within {WAIT_SECONDS} seconds.",
        "Correct host and port in {setting}, or let this machine through the firewall.",
    )
    yield (
        ssl.SSLError,
        "No TLS that can be trusted is spoken at {where}.",
        "Check the host and sslmode in {setting}, and the server's certificate.",
    )
    # The server has no TLS where that is asked for, or there is no server of PostgreSQL at all.
    yield (
        ConnectionError,
        "What answers at {where} speaks no PostgreSQL, or not as it is asked to ({detail}).",
        "Correct host, port and sslmode in {setting}.",
    )
    yield OSError, "{where} can't be reached ({detail}).", "Correct host and port in {setting}."
    yield BaseException, *no_server
