"""The command line: `lytics-sailthru` or `python -m app`."""

import asyncio
import gc
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import structlog
import typer
import uvicorn

from app import __version__, terminal
from app.commands import exports
from app.commands.backfills import INTERRUPTED
from app.commands.dead_letters import redrive
from app.commands.members import member
from app.commands.service import Service
from app.domain.errors import BadSettings, ServiceRefused, ServiceUnreachable, StoreUnavailable
from app.logs import configure_logs
from app.settings import load_settings

if TYPE_CHECKING:
    from app.main import Role

app = typer.Typer(
    name="lytics-sailthru",
    help="Keeps Sailthru lists equal to Lytics audiences.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# The number of new objects before a garbage collection.
GARBAGE_THRESHOLD = 20_000

log = structlog.get_logger(__name__)


def collect_garbage_rarely() -> None:
    """Exempt all existing objects from garbage collection, and collect less often."""
    # A collection of all startup objects would delay requests by a tenth of a second.
    gc.collect()
    gc.freeze()
    # Reference counting already frees the objects of a webhook.
    gc.set_threshold(GARBAGE_THRESHOLD)


class DrainingServer(uvicorn.Server):
    """A server that drains before it stops listening.

    Meanwhile webhooks get 503 with Retry-After, not a refused connection. A second signal ends the server at once.
    """

    def __init__(self, config: uvicorn.Config, drain: Callable[[], Awaitable[None]]) -> None:
        super().__init__(config)
        self._drain = drain
        self._draining: asyncio.Future[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        collect_garbage_rarely()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._draining is not None or not self.started:
            super().handle_exit(sig, frame)
            return
        self._draining = asyncio.ensure_future(self._drain())
        self._draining.add_done_callback(lambda _: setattr(self, "should_exit", True))


def server_config(asgi: Callable[..., Any], *, host: str, port: int, forwarded_allow_ips: str) -> uvicorn.Config:
    return uvicorn.Config(
        asgi,
        host=host,
        port=port,
        access_log=False,
        log_config=None,
        server_header=False,
        http="httptools",
        proxy_headers=True,
        forwarded_allow_ips=forwarded_allow_ips,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
    )


@app.command()
def serve(
    *,
    has_worker: Annotated[
        bool,
        typer.Option(
            "--worker/--no-worker", help="Also deliver and run backfills, or leave that to `work` (PostgreSQL only)."
        ),
    ] = True,
) -> None:
    """Run the service: its HTTP routes and the worker. Migrates the database first."""
    from app.main import Role

    _serve(Role.ALL if has_worker else Role.WEB)


@app.command()
def work() -> None:
    """Run only a worker (PostgreSQL only). It serves /health and /metrics at HOST and PORT."""
    from app.main import Role

    _serve(Role.WORKER)


def _serve(role: "Role") -> None:
    from app.main import create_app

    settings = load_settings()
    configure_logs(settings.log_level)
    asgi = create_app(settings, role=role)
    config = server_config(
        asgi, host=settings.host, port=settings.port, forwarded_allow_ips=settings.forwarded_allow_ips
    )
    try:
        DrainingServer(config, asgi.state.service.drain).run()
    except SystemExit:
        if asgi.state.service.refusal is not None:
            raise asgi.state.service.refusal from None
        raise


@app.command()
def migrate() -> None:
    """Migrate the database to this version. An SQLite file with data is first backed up next to itself."""
    from app.store.database.engine import Database
    from app.store.migrate import migrate as run

    configure_logs("WARNING")
    url = load_settings().database_url

    async def steps() -> list[str]:
        database = Database.open(url)
        try:
            return await run(database, url)
        finally:
            await database.close()

    done = asyncio.run(steps())
    typer.echo(f"Applied: {', '.join(done)}." if done else "The database is up to date.")


@app.command()
def copy(
    source: Annotated[
        str, typer.Option("--from", metavar="sqlite:///FILE", help="The file to copy. It stays as it is.")
    ],
    target: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="postgresql://USER@HOST/DATABASE",
            help="An empty database. The password may be in the URL, in PGPASSWORD or in ~/.pgpass.",
        ),
    ],
) -> None:
    """Copy all data from an SQLite file to PostgreSQL. The service must be stopped. An interrupted copy is resumed."""
    from app.store.moving.copy import RESUME_HINT
    from app.store.moving.copy import copy as run

    configure_logs("WARNING")
    try:
        with terminal.Bar() as bar:

            def show(done: int, total: int, step: str) -> None:
                bar.show(done, total or None, [f"{done:,} of {total:,} rows" if total else "copy", step])

            copied = asyncio.run(run(source, target, show))
    except KeyboardInterrupt:
        terminal.complain(f"The copy is not finished. {RESUME_HINT}")
        raise typer.Exit(INTERRUPTED) from None
    terminal.show_table(["table", "rows"], ((name, f"{rows:,}") for name, rows in copied.tables.items()))
    before = f" ({copied.rows_before:,} by an earlier run)" if copied.rows_before else ""
    terminal.say(f"Rows copied, and verified by count: {copied.rows:,}{before}. Seconds: {copied.seconds:,.1f}.")
    terminal.say(
        f"Now set DATABASE_URL to the PostgreSQL database, keep {copied.source} as a backup, and start the service."
    )


@app.command()
def check(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check whether the service can run: settings, database, Sailthru and Lytics. Changes nothing.

    Exit code 0 if it can run, 1 if a check failed, 2 if a setting is wrong.
    """
    from app.check import report
    from app.check.everything import check

    configure_logs("ERROR")
    with terminal.waiting("Checking Sailthru and Lytics …"):
        findings = asyncio.run(check(load_settings))
    if as_json:
        typer.echo(report.as_json(findings))
    else:
        report.show(findings)
    raise typer.Exit(report.exit_code(findings))


@app.command()
def sandbox(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    sailthru_port: Annotated[int, typer.Option(help="The port of the Sailthru sandbox.")] = 8001,
    lytics_port: Annotated[int, typer.Option(help="The port of the Lytics sandbox.")] = 8002,
    latency: Annotated[
        float, typer.Option(help="The mean time in seconds that Sailthru takes to answer. It varies by a third.")
    ] = 0.15,
) -> None:
    """Run a Sailthru sandbox and a Lytics sandbox, to try the service without accounts."""
    from app.demo.sandbox import run_sandbox

    run_sandbox(host, sailthru_port, lytics_port, latency=latency)


@app.command()
def demo(
    *,
    once: Annotated[
        bool, typer.Option(help="Exit when both lists are complete: code 0 if they are correct, 1 if not.")
    ] = False,
    people: Annotated[int, typer.Option(min=3, max=1000, help="The number of people who enter the audience.")] = 12,
) -> None:
    """Run the service against a sandbox: people enter and leave one audience, then a second audience is backfilled."""
    from app.demo.play import run

    raise typer.Exit(run(people=people, is_once=once))


@app.callback(invoke_without_command=True)
def version(
    *, show: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True)] = False
) -> None:
    """Keeps Sailthru lists equal to Lytics audiences."""
    if show:
        typer.echo(__version__)
        raise typer.Exit


app.add_typer(exports.app)
app.command()(member)
app.command()(redrive)


def connect() -> Service:
    settings = load_settings()
    return Service(settings.service_url, settings.first_admin_token())


def main(words: Sequence[str] | None = None) -> None:
    """Run one command. An expected error ends the process with one sentence on standard error.

    Exit codes:
        1: the service refuses the command, or the database is not usable.
        2: settings or arguments are wrong.
        3: the service cannot be reached.

    Args:
        words: the arguments without the program's name; by default those of the process.
    """
    try:
        app(words, obj=connect)
    except ServiceRefused as error:
        terminal.complain(f"lytics-sailthru: {error}")
        for candidate in error.candidates:
            terminal.complain(f"  {candidate}")
        sys.exit(1)
    except BadSettings as error:
        terminal.complain(f"lytics-sailthru: {error}")
        sys.exit(2)
    except StoreUnavailable as error:
        terminal.complain(f"lytics-sailthru: {error}")
        sys.exit(1)
    except ServiceUnreachable as error:
        terminal.complain(f"lytics-sailthru: {error}")
        sys.exit(3)


if __name__ == "__main__":
    main()
