"""Inspects a PostgreSQL database without changing it: checks that the service can connect, write and use its tables."""

from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy.engine import URL

from app.domain.erasure import Digests
from app.domain.errors import BadSettings
from app.store.database.dialect import try_to_write
from app.store.database.postgresql import unpooled_engine
from app.store.database.timeouts import LONGEST_STATEMENT_SECONDS
from app.store.database.unavailable import cause_of, driver_errors, why_unreachable
from app.store.database.url import parse_url
from app.store.erasure.erasures import count_ineffective
from app.store.migrate import revision_of, steps_after, works_since
from app.store.moving.inspection import UnusableStore
from app.store.moving.progress import copying, is_unfinished
from app.store.moving.rights import OLDEST_SERVER, Rights, count_replicas, rights_in, tables_in
from app.store.schema import metadata

REVISIONS = "alembic_version"
OWN_TABLES = frozenset({*metadata.tables, copying.name, REVISIONS})


@dataclass(frozen=True, slots=True)
class ServerInspection:
    """A PostgreSQL database that the service can work with.

    Args:
        name: name of the database, with its server and without the password.
        replicas: number of replicas of the service that run on it.
        revision: the last migration; None if the database is empty.
        missing: the migrations that the next start applies.
        is_copy_unfinished: True if a copy into the database is not finished.
        ineffective_erasures: number of addresses that were erased with another key than the current one.
    """

    name: str
    replicas: int
    revision: str | None
    missing: tuple[str, ...]
    is_copy_unfinished: bool
    ineffective_erasures: int


async def inspect_server(
    url: str, digests: Digests | None, *, setting: str = "DATABASE_URL", is_changed: bool = False
) -> ServerInspection:
    """Inspect the PostgreSQL database of a URL. The trial write is a transaction without content.

    Args:
        digests: made with the erasure key, if one is set.
        setting: the name of the setting or option that holds the URL.
        is_changed: True if tables will be changed, even if no migration is missing.

    Raises:
        UnusableStore: the service can't work with the database.
        BadSettings: it is not the URL of a database, or the driver is not installed.
    """
    parsed = parse_url(url)
    engine = unpooled_engine(parsed, LONGEST_STATEMENT_SECONDS)
    try:
        connection = await engine.connect()
    except driver_errors() as error:
        raise UnusableStore(*why_unreachable(error, parsed, setting)) from error
    try:
        found = await connection.run_sync(_Inspector(parsed, digests, setting, is_changed=is_changed).run)
        # The commit performs the trial write.
        await connection.commit()
    except driver_errors() as error:
        cause = type(cause_of(error)).__name__
        raise UnusableStore(
            f"The database {name_of(parsed)} could not be used ({cause}).",
            f"Read the server's log, and check {setting}.",
        ) from error
    else:
        return found
    finally:
        await connection.close()
        await engine.dispose()


def name_of(url: URL) -> str:
    """Return the database of a URL and its server, for messages."""
    return f"{url.database} at {url.host}:{url.port or 5432}" if url.host else f"{url.database}"


class _Inspector:
    def __init__(self, url: URL, digests: Digests | None, setting: str, *, is_changed: bool) -> None:
        self._is_changed = is_changed
        self._name = name_of(url)
        self._digests = digests
        self._setting = setting

    def run(self, connection: Connection) -> ServerInspection:
        rights = rights_in(connection, OWN_TABLES)
        if rights.version < OLDEST_SERVER:
            raise UnusableStore(
                f"The server of {self._name} is PostgreSQL {rights.version}.",
                f"Use PostgreSQL {OLDEST_SERVER} or newer.",
            )
        if rights.schema is None:
            raise UnusableStore(
                f"The user {rights.user} may use no schema in {self._name}.",
                f"As its owner: GRANT USAGE, CREATE ON SCHEMA public TO {rights.user}.",
            )
        existing = tables_in(connection)
        revision = revision_of(connection) if REVISIONS in existing else None
        if revision is None and existing - {copying.name}:
            raise UnusableStore(
                f"{self._name} holds the tables of another program.",
                f"Name another database in {self._setting}.",
            )
        missing = self._missing(connection, revision)
        self._require_rights(rights, is_changed=bool(missing) or self._is_changed)
        self._try_to_write(connection, rights)
        return ServerInspection(
            self._name,
            count_replicas(connection),
            revision,
            missing,
            is_unfinished(connection),
            0 if missing else count_ineffective(connection, self._digests),
        )

    def _missing(self, connection: Connection, revision: str | None) -> tuple[str, ...]:
        try:
            return tuple(steps_after(revision, works_since(connection)))
        except BadSettings as error:
            raise UnusableStore(
                f"{self._name} was used by a newer version of this program.",
                f"Install that version, or name another database in {self._setting}.",
            ) from error

    def _require_rights(self, rights: Rights, *, is_changed: bool) -> None:
        if rights.unusable:
            raise UnusableStore(
                f"The user {rights.user} may not use {rights.unusable[0]} in {self._name}.",
                f"As its owner: GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {rights.schema} TO "
                f"{rights.user}, and USAGE ON ALL SEQUENCES; or name another user in {self._setting}.",
            )
        if is_changed and not rights.can_create:
            raise UnusableStore(
                f"The user {rights.user} may not create tables in the schema {rights.schema} of {self._name}.",
                f"As its owner: GRANT USAGE, CREATE ON SCHEMA {rights.schema} TO {rights.user}.",
            )
        if is_changed and rights.not_owned:
            raise UnusableStore(
                f"The user {rights.user} can't change the tables of {self._name}, since another user owns them.",
                f"Run this once as their owner, or make {rights.user} the owner (ALTER TABLE ... OWNER TO).",
            )

    def _try_to_write(self, connection: Connection, rights: Rights) -> None:
        if rights.is_read_only:
            raise UnusableStore(
                f"{self._name} does not accept writes: it is a standby, or set to read only.",
                f"Name the primary server in {self._setting}, or set default_transaction_read_only to off.",
            )
        try_to_write(connection)
