"""Reads `DATABASE_URL`."""

from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from app.domain.errors import BadSettings

SUPPORTED_URLS = "use sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"


def parse_url(url: str) -> URL:
    """Return the parsed `DATABASE_URL`, with the driver that the service uses.

    Raises:
        BadSettings: it is not a URL, or names an unsupported database. The message does not quote the URL, since it
            may contain a password.
    """
    try:
        parsed = make_url(url)
        backend = parsed.drivername.partition("+")[0]
    except (ArgumentError, ValueError):
        raise BadSettings(f"DATABASE_URL is not the URL of a database: {SUPPORTED_URLS}.") from None
    if backend == "sqlite":
        return parsed
    if backend in {"postgresql", "postgres"}:
        return _postgresql_url(parsed)
    raise BadSettings(f"DATABASE_URL starts with {parsed.drivername!r}, which is not supported: {SUPPORTED_URLS}.")


def _postgresql_url(url: URL) -> URL:
    if not url.database:
        raise BadSettings(f"DATABASE_URL names no database on its server: {SUPPORTED_URLS}.")
    query = dict(url.query)
    # libpq and most providers call it sslmode; asyncpg calls it ssl.
    if "sslmode" in query:
        query["ssl"] = query.pop("sslmode")
    unknown = query.keys() - {"ssl", "host"}
    if unknown:
        raise BadSettings(
            f"DATABASE_URL has {sorted(unknown)} after the '?', which is not supported: use sslmode or host."
        )
    return url.set(drivername="postgresql+asyncpg", query=query)


def sqlite_path(url: URL) -> Path:
    """Return the path in an SQLite URL.

    Raises:
        BadSettings: the database would be in memory.
    """
    if not url.database or url.database == ":memory:":
        raise BadSettings(
            "DATABASE_URL names no file. A database in memory is lost when the process ends: use sqlite:///FILE."
        )
    return Path(url.database)
