"""The sandboxes for the bench: `python -m tests.bench.sandbox SAILTHRU_PORT LYTICS_PORT LIMIT KEY...`.

Sailthru has one account for each key, and the secret is the key reversed. Calls take 150 ms ± 50 and close their
connection.
"""

import asyncio
import random
import sys

from app.sandbox import server
from app.sandbox.lytics import LyticsSandbox
from app.sandbox.lytics.audiences import SPRING_BUYERS, Audience
from app.sandbox.sailthru import SailthruSandbox
from tests.promises.processes import LYTICS_TOKEN

LATENCY = (0.15, 0.05)
AUDIENCES = (
    SPRING_BUYERS,
    Audience("f9e8d7c6b5a493827160f5e4d3c2b1a0", "Lapsed Buyers", "lapsed_buyers"),
    Audience("1b2c3d4e5f60718293a4b5c6d7e8f90a", "Newsletter", "newsletter"),
)


def secret_of(key: str) -> str:
    return key[::-1]


def main(sailthru_port: str, lytics_port: str, limit: str, *keys: str) -> None:
    """Serve until a signal arrives."""
    sailthru = SailthruSandbox(
        {key: secret_of(key) for key in keys},
        limits={("POST", "/user"): int(limit)},
        latency=LATENCY,
        dice=random.Random(20261125),
    )
    ports = int(sailthru_port), int(lytics_port)
    asyncio.run(server.serve("127.0.0.1", *ports, sailthru=sailthru, lytics=LyticsSandbox(LYTICS_TOKEN, AUDIENCES)))


if __name__ == "__main__":
    main(*sys.argv[1:])
