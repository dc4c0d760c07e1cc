"""A load generator as a process, much cheaper than what it measures: keep-alive sockets, prepared bytes, one request
at a time on each: `python -m tests.bench.load '{"port": ..., ...}'`, which prints what it found as JSON.

With a rate it keeps to a schedule, whatever the answers do, and counts from the moment a request was to be sent;
without one it sends the next request of a connection when the answer to the last is here.
"""

import json
import random
import re
import resource
import selectors
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import NamedTuple

from tests.bench.bodies import requests

# Bytes of a request that a socket takes at once, so that sending never waits for the server.
BUFFER = 1 << 20
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Load:
    """What to send.

    Args:
        port: of 127.0.0.1.
        people: the number of the first person; each event is one of the next.
        seconds: for how long requests are sent.
        connections: how many requests may be under way.
        events: of one request; an array where more than one.
        rate: requests a second, at random moments; None for as many as are answered.
    """

    port: int
    people: int
    seconds: float
    connections: int
    events: int = 1
    rate: float | None = None


class Answered(NamedTuple):
    """One request: its first person, when it was to be sent in seconds since 1970, and how many seconds its answer
    took.
    """

    person: int
    at: float
    took: float


@dataclass(frozen=True)
class Found:
    """What came of it.

    Args:
        answers: how often each came, by its status and body.
        requests: in the order of their answers.
        elapsed: seconds from the first request to the last answer.
        busy: the part of it in which the generator itself used its core.
    """

    answers: dict[str, int]
    requests: list[Answered]
    elapsed: float
    busy: float

    @classmethod
    def from_json(cls, text: str | bytes) -> "Found":
        """As the process printed it."""
        found = json.loads(text)
        return cls(**found | {"requests": [Answered(*one) for one in found["requests"]]})


class _Connection:
    """One request at a time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        self._person = 0
        self._began_at = 0.0
        self._received = b""

    def send(self, person: int, request: bytes, began_at: float) -> None:
        self._person, self._began_at = person, began_at
        self.socket.sendall(request)

    def receive(self) -> tuple[bytes, Answered] | None:
        """Status and body of the answer, or None while it is not whole."""
        part = self.socket.recv(65536)
        if not part:
            raise ConnectionError("The server closed a connection.")
        received = self._received = self._received + part
        head, _, body = received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if length is None or len(body) < int(length[1]):
            return None
        self._received = b""
        return head[9:12] + b" " + body, Answered(self._person, self._began_at, time.time() - self._began_at)


def run(load: Load) -> Found:
    """Send it all, and wait for the last answer."""
    prepared = requests(load.people, load.events)
    # Not epoll: that waits for whole milliseconds.
    selector = selectors.SelectSelector()
    idle = deque(_Connection(load.port) for _ in range(load.connections))
    for connection in idle:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    answers: Counter[bytes] = Counter()
    answered: list[Answered] = []
    begins, used = time.time(), _used()
    schedule = _schedule(begins, load)
    next_at = next(schedule, None)
    while next_at is not None or len(idle) < load.connections:
        now = time.time()
        while idle and next_at is not None and next_at <= now:
            idle.popleft().send(*next(prepared), next_at if load.rate else time.time())
            next_at = next(schedule, None)
        for key, _ in selector.select(max(next_at - now, 0) if idle and next_at is not None else None):
            connection = key.data
            answer = connection.receive()
            if answer is not None:
                answers[answer[0]] += 1
                answered.append(answer[1])
                idle.append(connection)
    elapsed = time.time() - begins
    return Found({a.decode(): n for a, n in answers.items()}, answered, elapsed, (_used() - used) / elapsed)


def _schedule(begins: float, load: Load) -> Iterator[float]:
    """When requests are to be sent: at once while there is time, or at random moments, as strangers would."""
    ends = begins + load.seconds
    if load.rate is None:
        while time.time() < ends:
            yield begins
        return
    dice, at = random.Random(load.people), begins
    while (at := at + dice.expovariate(load.rate)) < ends:
        yield at


def _used() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    json.dump(asdict(run(Load(**json.loads(sys.argv[1])))), sys.stdout)
