"""Inspection of a PostgreSQL database changes nothing and reports its problems."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import asyncpg
import pytest
from alembic import command
from sqlalchemy import Connection
from sqlalchemy.engine import make_url

from app.domain.erasure import Digests
from app.domain.errors import BadSettings
from app.store import migrate as module
from app.store.database import postgresql as pool
from app.store.database.dialect import TRY_TO_SHARE_DATABASE
from app.store.database.engine import Database
from app.store.database.unavailable import why_unreachable
from app.store.erasure.erasures import Erasures
from app.store.migrate import migrate, steps_after
from app.store.moving import server_inspection
from app.store.moving.inspection import UnusableStore
from app.store.moving.server_inspection import ServerInspection, inspect_server
from tests import postgresql

NEWEST = steps_after(None)[-1]
PASSWORD = "sesame-open"
GUEST = "guest"
# Rules of authentication; the first line that matches counts.
RULES = """
host all     tests all trust
host refused all   all reject
host all     all   all scram-sha-256
"""
IN_THE_DATABASE = (
    "SELECT string_agg(concat_ws(' ', relname, relpages, pg_relation_size(oid), relfilenode), ';' ORDER BY relname)"
    " FROM pg_class"
)


@pytest.fixture(scope="module")
def server() -> Iterator[postgresql.Server]:
    """Start a server that requires passwords."""
    server = postgresql.Server()
    rules = server.folder / "rules"
    rules.write_text(RULES)
    rules.chmod(0o644)
    server.options["hba_file"] = str(rules)
    try:
        server.start()
        asyncio.run(postgresql.execute(server.url, f"CREATE ROLE {GUEST} LOGIN PASSWORD '{PASSWORD}'"))
        yield server
    finally:
        server.remove()


@pytest.fixture
def url(server: postgresql.Server) -> Iterator[str]:
    """Return the URL of an empty database, for its owner."""
    with postgresql.database(server.url) as url:
        yield url


def as_guest(url: str, password: str = PASSWORD, name: str = GUEST) -> str:
    return url.replace("tests@", f"{name}:{password}@")


def name_of(url: str) -> str:
    parsed = make_url(url)
    return f"{parsed.database} at {parsed.host}:{parsed.port}"


async def make(url: str) -> None:
    """Create the tables of this version."""
    database = Database.open(url)
    await migrate(database, url)
    await database.close()


async def at_step(url: str, revision: str) -> None:
    """Create the tables of an older version."""

    def upgrade(connection: Connection) -> None:
        config = module._config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    database = Database.open(url)
    await database.change(upgrade)
    await database.close()


async def run(url: str, *statements: str) -> None:
    for statement in statements:
        await postgresql.execute(url, statement)


async def refusal(url: str, *words: str) -> UnusableStore:
    """Return the error of the inspection. It has a next step and does not contain the password."""
    with pytest.raises(UnusableStore) as caught:
        await inspect_server(url, None)
    assert PASSWORD not in str(caught.value)
    assert "wrong" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)
    return caught.value


@asynccontextmanager
async def answering(words: bytes | None) -> AsyncIterator[str]:
    """Yield the URL of a server that is not PostgreSQL. It sends these bytes and closes; with None it sends nothing."""
    silent: list[asyncio.StreamWriter] = []

    def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if words is None:
            silent.append(writer)
            return
        writer.write(words)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        yield f"postgresql://{GUEST}:{PASSWORD}@127.0.0.1:{port}/store"
        for connection in silent:
            connection.close()


class TestUsable:
    async def test_empty_database(self, url: str) -> None:
        """The database stays empty."""
        found = await inspect_server(url, None)

        assert found == ServerInspection(name_of(url), 0, None, tuple(steps_after(None)), False, 0)

    async def test_database_of_this_version(self, url: str) -> None:
        await make(url)

        assert await inspect_server(url, None) == ServerInspection(name_of(url), 0, NEWEST, (), False, 0)

    async def test_database_of_an_older_version(self, url: str) -> None:
        """The database is not migrated. The result names the missing migrations."""
        await at_step(url, "0001")
        found = await inspect_server(url, None)

        assert (found.revision, found.missing) == ("0001", tuple(steps_after("0001")))

    async def test_database_of_a_compatible_newer_version(self, url: str) -> None:
        """This occurs during an upgrade of replicas."""
        await make(url)
        await run(url, "UPDATE alembic_version SET version_num = '9999'")
        found = await inspect_server(url, None)

        assert (found.revision, found.missing) == ("9999", ())

    async def test_nothing_changes(self, url: str) -> None:
        """Neither the tables nor their pages change."""
        await make(url)
        # The first inspection fills caches of the catalog.
        await postgresql.execute(url, "VACUUM")
        connection = await asyncpg.connect(url)
        before = await connection.fetchval(IN_THE_DATABASE)
        await inspect_server(url, None)
        after = await connection.fetchval(IN_THE_DATABASE)
        await connection.close()

        assert after == before

    async def test_running_replicas_are_counted(self, url: str) -> None:
        """Replicas of other databases are not counted."""
        await make(url)
        replicas = [await asyncpg.connect(url) for _ in range(2)]
        elsewhere = await asyncpg.connect(postgresql.named(url, "postgres"))
        for connection in (*replicas, elsewhere):
            await connection.execute(TRY_TO_SHARE_DATABASE)
        found = await inspect_server(url, None)
        for connection in (*replicas, elsewhere):
            await connection.close()

        assert found.replicas == 2

    async def test_unfinished_copy(self, url: str) -> None:
        await make(url)
        await run(url, "CREATE TABLE copying (table_name text)")

        assert (await inspect_server(url, None)).is_copy_unfinished

    async def test_erasures_with_another_key_are_counted(self, url: str) -> None:
        """The inspection has the right key, another key, or none."""
        right, other = Digests("the-key-of-the-tests"), Digests("another-key-of-tests")
        await make(url)
        database = Database.open(url)
        await Erasures(database, lambda: datetime.now(UTC), right).erase("ada@example.com", leave_lists=False)
        await database.close()
        found = [(await inspect_server(url, digests)).ineffective_erasures for digests in (right, other, None)]

        assert found == [0, 1, 1]

    async def test_user_with_the_least_rights(self, url: str) -> None:
        """They suffice for using tables of this version that another user owns, but not for changing them."""
        await make(url)
        await run(
            url,
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {GUEST}",
            f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {GUEST}",
        )

        assert (await inspect_server(as_guest(url), None)).revision == NEWEST
        with pytest.raises(UnusableStore, match="may not create tables"):
            await inspect_server(as_guest(url), None, is_changed=True)
        await run(url, f"GRANT CREATE ON SCHEMA public TO {GUEST}")
        with pytest.raises(UnusableStore, match="can't change the tables"):
            await inspect_server(as_guest(url), None, is_changed=True)


class TestUnreachable:
    async def test_wrong_password(self, url: str) -> None:
        refused = await refusal(as_guest(url, "wrong"), f"rejects the password of the user {GUEST}")

        assert "%40" in refused.next_step

    async def test_no_password(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("PGPASSWORD", raising=False)

        await refusal(url.replace("tests@", f"{GUEST}@"), "rejects the password", "DATABASE_URL")

    async def test_user_refused_by_the_server(self, server: postgresql.Server) -> None:
        refused = as_guest(postgresql.named(server.url, "refused"))

        await refusal(refused, f"does not let the user {GUEST} connect from this machine", "pg_hba.conf")

    async def test_missing_database(self, server: postgresql.Server) -> None:
        await refusal(postgresql.named(server.url, "nowhere"), "has no database nowhere", "CREATE DATABASE")

    async def test_database_without_the_right_to_connect(self, url: str) -> None:
        name = make_url(url).database
        await run(url, f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")

        await refusal(as_guest(url), f"user {GUEST} may not connect to the database {name}", "GRANT CONNECT")

    async def test_no_free_connection(self, url: str) -> None:
        await run(url, f"ALTER DATABASE {make_url(url).database} CONNECTION LIMIT 0")

        await refusal(as_guest(url), "no free connection", "max_connections")

    async def test_server_without_tls(self, url: str) -> None:
        await refusal(f"{as_guest(url)}?sslmode=require", "rejected SSL", "sslmode")

    async def test_unknown_sslmode(self, url: str) -> None:
        await refusal(f"{as_guest(url)}?sslmode=sometimes", "`sslmode`", "Correct DATABASE_URL")

    async def test_closed_port(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]

        await refusal(f"postgresql://u:{PASSWORD}@127.0.0.1:{port}/d", f"Nothing listens at 127.0.0.1:{port}")

    async def test_server_that_does_not_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The connection times out."""
        monkeypatch.setattr(pool, "WAIT_SECONDS", 0.2)
        async with answering(None) as silent:
            await refusal(silent, "There was no answer from 127.0.0.1", "firewall")

    @pytest.mark.parametrize("words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
    async def test_server_that_is_not_postgresql(self, words: bytes) -> None:
        async with answering(words) as other:
            await refusal(other, "The server at 127.0.0.1", "is not PostgreSQL", "host, port")

    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (socket.gaierror(-2, "Name or service not known"), "The host name db.invalid can't be resolved"),
            (ssl.SSLCertVerificationError("self-signed certificate"), "offers no trusted TLS connection"),
            (OSError(113, "No route to host"), "db.invalid:5432 can't be reached (No route to host)"),
            (asyncpg.CannotConnectNowError("starting up"), "is starting or stopping"),
            (asyncpg.DiskFullError(f"secret {PASSWORD}"), "refuses the connection (DiskFullError)"),
            (asyncpg.InternalClientError("got result for unknown protocol state"), "is not PostgreSQL"),
        ],
    )
    def test_other_errors(self, error: Exception, words: str) -> None:
        url = make_url(f"postgresql://me:{PASSWORD}@db.invalid/store")
        happened, next_step = why_unreachable(error, url, "--to")

        assert words in happened
        assert next_step
        assert PASSWORD not in happened + next_step

    def test_url_without_a_host_means_the_local_socket(self) -> None:
        happened, _ = why_unreachable(ConnectionRefusedError(), make_url("postgresql:///store"), "--to")

        assert happened == "Nothing listens at the local socket."


class TestProblems:
    async def test_schema_without_the_right_to_create_tables(self, url: str) -> None:
        """This is the default for all users but the owner since PostgreSQL 15."""
        await refusal(
            as_guest(url),
            f"The user {GUEST} may not create tables in the schema public",
            f"GRANT USAGE, CREATE ON SCHEMA public TO {GUEST}",
        )
        await run(url, f"GRANT USAGE, CREATE ON SCHEMA public TO {GUEST}")

        assert (await inspect_server(as_guest(url), None)).revision is None

    async def test_no_schema(self, url: str) -> None:
        await run(url, f"ALTER DATABASE {make_url(url).database} SET search_path = ''")

        await refusal(url, "may use no schema")

    async def test_tables_without_rights(self, url: str) -> None:
        """Each missing right on a table or a sequence is reported."""
        await make(url)
        await run(url, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {GUEST}")
        first = await refusal(as_guest(url), f"The user {GUEST} may not use accounts")
        await run(url, f"GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {GUEST}")
        await refusal(as_guest(url), f"The user {GUEST} may not use backfills_id_seq")

        assert "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public" in first.next_step

    async def test_tables_to_migrate_of_another_owner(self, url: str) -> None:
        """The missing migrations would change the tables."""
        await at_step(url, "0001")
        await run(
            url,
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {GUEST}",
            f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {GUEST}",
            f"GRANT USAGE, CREATE ON SCHEMA public TO {GUEST}",
        )

        await refusal(as_guest(url), f"The user {GUEST} can't change the tables", "OWNER TO")

    async def test_read_only_database(self, url: str) -> None:
        await make(url)
        await run(url, f"ALTER DATABASE {make_url(url).database} SET default_transaction_read_only = on")

        await refusal(url, "does not accept writes", "primary server")

    async def test_database_of_an_incompatible_newer_version(self, url: str) -> None:
        await make(url)
        await run(
            url,
            "UPDATE alembic_version SET version_num = '9999'",
            "UPDATE versions SET version = 9999 WHERE name = 'schema'",
        )

        await refusal(url, "was used by a newer version", "Install that version")

    async def test_database_of_another_program(self, url: str) -> None:
        await run(url, "CREATE TABLE orders (id integer)")

        await refusal(url, "holds the tables of another program", "Name another database")

    async def test_server_that_is_too_old(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server_inspection, "OLDEST_SERVER", 99)

        await refusal(url, "is PostgreSQL 1", "Use PostgreSQL 99 or newer")

    async def test_lost_connection(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def lost(connection: Connection) -> None:
            connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

        monkeypatch.setattr(server_inspection, "try_to_write", lost)

        await refusal(url, "could not be used (", "Read the server's log")

    @pytest.mark.parametrize("given", ["postgresql://me:sesame-open@host", "sesame-open", "mysql://me:sesame-open@h/d"])
    async def test_malformed_url(self, given: str) -> None:
        with pytest.raises(BadSettings, match="DATABASE_URL") as caught:
            await inspect_server(given, None)

        assert PASSWORD not in str(caught.value)
