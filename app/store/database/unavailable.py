"""Maps errors of the database drivers to `StoreUnavailable`, and to texts with the next step for an operator."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.engine import URL
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.domain.errors import StoreUnavailable
from app.store.database.timeouts import WAIT_SECONDS

# Classes of PostgreSQL errors that a bug of the service causes: cardinality, data, integrity, syntax and access rights.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_BUGS = ("21", "22", "23", "42")


@contextmanager
def raise_unavailable() -> Iterator[None]:
    """Turn driver errors into `StoreUnavailable`, except those about a statement or a value, which are bugs."""
    try:
        yield
    except (IntegrityError, DataError, ProgrammingError):
        raise
    except DBAPIError as error:
        if str(getattr(error.orig, "sqlstate", None) or "")[:2] in _BUGS:
            raise
        # Without the driver's text, which may quote a statement.
        raise StoreUnavailable(f"The database could not be used ({type(error.orig).__name__}).") from error
    except PoolTimeoutError as error:
        raise StoreUnavailable("The database could not be used (no free connection).") from error
    except (SQLAlchemyError, OSError) as error:
        raise StoreUnavailable(f"The database could not be used ({type(error).__name__}).") from error


def driver_errors() -> tuple[type[Exception], ...]:
    """Return the error classes of a lost or unreachable PostgreSQL server. SQLAlchemy does not wrap all of them."""
    import asyncpg

    return (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, DBAPIError)


def cause_of(error: BaseException) -> BaseException:
    """Return the driver's own error."""
    return error.driver_exception if isinstance(error, DBAPIError) else error


def why_unreachable(error: BaseException, url: URL, setting: str) -> tuple[str, str]:
    """Return why a connection to PostgreSQL failed and what to do next, without the password.

    Args:
        setting: the name of the setting or option that holds the URL.
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
    happened, next_step = next(sentences for kind, *sentences in _explanations() if isinstance(error, kind))
    return happened.format(**words), next_step.format(**words)


def _explanations() -> Iterator[tuple[type[BaseException], str, str]]:
    """Yield error classes with what happened and the next step; the first matching class counts."""
    import asyncpg

    not_postgresql = ("The server at {where} is not PostgreSQL.", "Correct host and port in {setting}.")
    yield (
        asyncpg.InvalidPasswordError,
        "PostgreSQL at {where} rejects the password of the user {user}.",
        "Correct it in {setting}; write characters such as @, : and / as %40, %3A and %2F.",
    )
    yield (
        asyncpg.InvalidAuthorizationSpecificationError,
        "PostgreSQL at {where} does not let the user {user} connect from this machine.",
        "Correct the user in {setting}, or allow it on the server (CREATE ROLE, pg_hba.conf).",
    )
    yield (
        asyncpg.InvalidCatalogNameError,
        "PostgreSQL at {where} has no database {database}.",
        "Create it (CREATE DATABASE), or correct its name in {setting}.",
    )
    yield (
        asyncpg.InsufficientPrivilegeError,
        "The user {user} may not connect to the database {database} at {where}.",
        "Grant the right (GRANT CONNECT ON DATABASE), or correct {setting}.",
    )
    yield (
        asyncpg.TooManyConnectionsError,
        "PostgreSQL at {where} has no free connection.",
        "Raise its max_connections, or stop other clients.",
    )
    yield asyncpg.CannotConnectNowError, "PostgreSQL at {where} is starting or stopping.", "Try again in a minute."
    yield asyncpg.PostgresConnectionError, *not_postgresql
    yield (
        asyncpg.PostgresError,
        "PostgreSQL at {where} refuses the connection ({error}).",
        "Read its log, and check {setting}.",
    )
    # The driver does not support the URL.
    yield asyncpg.InterfaceError, "No connection to {where} can be made ({detail}).", "Correct {setting}."
    yield (
        socket.gaierror,
        "The host name {host} can't be resolved.",
        "Correct the host in {setting}, or check the name server of this machine.",
    )
    yield (
        ConnectionRefusedError,
        "Nothing listens at {where}.",
        "Start PostgreSQL, or correct host and port in {setting}.",
    )
    yield (
        TimeoutError,
        f"There was no answer from {{where}} within {WAIT_SECONDS} seconds.",
        "Correct host and port in {setting}, or allow this machine in the firewall.",
    )
    yield (
        ssl.SSLError,
        "The server at {where} offers no trusted TLS connection.",
        "Check the host and sslmode in {setting}, and the server's certificate.",
    )
    # The server has no TLS although sslmode requires it, or it is not PostgreSQL.
    yield (
        ConnectionError,
        "The server at {where} is not PostgreSQL, or does not support the sslmode ({detail}).",
        "Correct host, port and sslmode in {setting}.",
    )
    yield OSError, "{where} can't be reached ({detail}).", "Correct host and port in {setting}."
    yield BaseException, *not_postgresql
