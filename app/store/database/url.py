"""TODO."""

from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from app.domain.errors import BadSettings

HOW = "use sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"


def parse_url(url: str) -> URL:
    """What `DATABASE_URL` says.

    Raises:
        BadSettings: it is no URL, or of a kind that can't be opened. The sentence does not quote it, since it may hold
            a password.
    """
    try:
        parsed = make_url(url)
        backend = parsed.drivername.partition("+")[0]
    except (ArgumentError, ValueError):
        raise BadSettings(f"DATABASE_URL can't be read as the URL of a database: {HOW}.") from None
    if backend == "sqlite":
        return parsed
    if backend in {"postgresql", "postgres"}:
        return _postgresql_url(parsed)
    raise BadSettings(f"DATABASE_URL starts with {parsed.drivername!r}, which can't be opened: {HOW}.")


def _postgresql_url(url: URL) -> URL:
    if not url.database:
        raise BadSettings(f"DATABASE_URL names no database on its server: {HOW}.")
    query = dict(url.query)
    # As libpq calls it, and with it most providers; asyncpg has another name for it.
    if "sslmode" in query:
        query["ssl"] = query.pop("sslmode")
    unknown = query.keys() - {"ssl", "host"}
    if unknown:
        raise BadSettings(f"DATABASE_URL has {sorted(unknown)} after the '?', which is not known: use sslmode or host.")
    return url.set(drivername="postgresql+asyncpg", query=query)


def sqlite_path(url: URL) -> Path:
    """The file of an SQLite URL."""
    if not url.database or url.database == ":memory:":
        raise BadSettings(
            "DATABASE_URL names no file: what is only in memory is lost with the process; use sqlite:///FILE."
        )
    return Path(url.database)
