"""What a second replica adds: calls a second with a backlog, by two of them on one PostgreSQL and by one."""

import time
from contextlib import ExitStack
from pathlib import Path

from tests.bench import cores
from tests.bench.databases import on_disk
from tests.bench.report import Measured, Say, ratio_of_rounds
from tests.bench.scene import MAIN, BenchSandbox, scene, service_of
from tests.bench.store import stores
from tests.promises.processes import Service, until

ROUNDS, SECONDS, WARM_CALLS = 5, 8.0, 500
# More than any machine makes in a minute.
LIMIT = 10_000_000
BACKLOG, AT_ONCE = 16_000, 500
# One for each replica, one for the sandbox and one for the server of the database.
CORES = 4


def delivery_of_two(folder: Path, say: Say) -> Measured:
    """Sailthru answers after 150 ms ± 50 and closes each connection; nobody is bound to a core. With fewer cores than
    processes the replicas only take them from each other, and a target that is missed then counts for nothing.
    """
    enough = cores.how_many() >= CORES
    with (
        on_disk(core=None) as url,
        scene(folder / "one", limit=LIMIT, url=url, sandbox_core=None) as (first, sandbox),
    ):
        # The list is there now; whoever is measured starts with a backlog of its own.
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
                f"calls a second with a backlog, two replicas ÷ one, on {cores.how_many()} cores"
                + ("" if enough else f" (counts from {CORES} on)"),
                "≥ 1.6",
                lambda _: rate(first, second),
                lambda _: rate(first),
                say=say,
                rounds=ROUNDS,
                unit="/s",
                holds=lambda ratio: ratio >= 1.6 or (False if enough else None),
            )
        finally:
            second.close()


def _calls_a_second(sandbox: BenchSandbox, replicas: tuple[Service, ...]) -> float:
    """From when they all run and call."""
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
