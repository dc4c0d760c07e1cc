"""Runs the program with a wrong clock: `SKEW_SECONDS=3600 python -m tests.promises.skewed serve`."""

import os
import time
from datetime import UTC, datetime, timedelta

from app.__main__ import main
from app.store.database import clock, sqlite

SKEW = timedelta(seconds=float(os.environ["SKEW_SECONDS"]))


def wrong_clock() -> datetime:
    return datetime.now(UTC) + SKEW


if __name__ == "__main__":
    _real_time = time.time
    time.time = lambda: _real_time() + SKEW.total_seconds()
    clock.wall_clock = wrong_clock
    vars(sqlite)["wall_clock"] = wrong_clock
    main()
