"""The gain of a second replica: calls per second with a backlog, by two replicas on one PostgreSQL and by one."""

import time
from contextlib import ExitStack
from pathlib import Path

from tests.bench import cores
from tests.bench.databases import on_disk
from tests.bench.report import Log, Measured, ratio_of_rounds
from tests.bench.scene import MAIN, BenchSandbox, scene, service_of
from tests.bench.store import stores
from tests.promises.processes import Service, until

ROUNDS, SECONDS, WARM_CALLS = 5, 8.0, 500
# More calls a minute than any machine can make.
LIMIT = 10_000_000
BACKLOG, AT_ONCE = 16_000, 500
# One for each replica, one for the sandbox and one for the server of the database.
CORES = 4


def delivery_of_two(folder: Path, log: Log) -> Measured:
    """Measure with processes that may use all cores.

    A missed target does not count with fewer cores than processes, because the replicas compete for cores.
    """
    enough = cores.usable() >= CORES
    with (
        on_disk(core=None) as url,
        scene(folder / "one", limit=LIMIT, url=url, sandbox_core=None) as (first, sandbox),
    ):
        # The list exists now. Each measurement starts its replicas with a new backlog.
        first.process.stop()
        (folder / "two").mkdir()
        second = service_of(folder / "two", sandbox, url)

        def rate(*replicas: Service) -> float:
            with stores([url], are_new=False) as (store,):
                store.keep(BACKLOG, at_once=AT_ONCE)
                store.maintain()
            return _calls_a_second(sandbox, replicas)

        try:
            return ratio_of_rounds(
                f"calls a second with a backlog, two replicas ÷ one, on {cores.usable()} cores"
                + ("" if enough else f" (counts with {CORES} or more)"),
                "≥ 1.6",
                lambda _: rate(first, second),
                lambda _: rate(first),
                log=log,
                rounds=ROUNDS,
                unit="/s",
                holds=lambda ratio: ratio >= 1.6 or (False if enough else None),
            )
        finally:
            second.close()


def _calls_a_second(sandbox: BenchSandbox, replicas: tuple[Service, ...]) -> float:
    """Return the calls per second, measured once all replicas make calls."""
    with ExitStack() as running:
        for replica in replicas:
            running.callback(replica.process.stop)
            replica.process.start()
        for replica in replicas:
            replica.wait_until_ready()
        begun = _calls(sandbox)
        until(lambda: _calls(sandbox), lambda calls: calls >= begun + WARM_CALLS)
        before, began = _calls(sandbox), time.monotonic()
        time.sleep(SECONDS)
        after, ended = _calls(sandbox), time.monotonic()
        assert replicas[0].export()["counts"]["pending"] > 0, "The backlog was too small."
        return (after - before) / (ended - began)


def _calls(sandbox: BenchSandbox) -> int:
    calls: int = sandbox.account(key=MAIN)["calls"].get("POST /user", 0)
    return calls
