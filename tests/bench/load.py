"""A load generator: `python -m tests.bench.load '{"port": ..., ...}'` prints its result as JSON.

It uses much less CPU time than the measured server. It sends prepared bytes over keep-alive connections, each with one
request at a time. With a rate, requests follow a schedule that does not depend on answers, and times count from the
scheduled time. Without a rate, each connection sends its next request after the previous answer.
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

# Size of the send buffer in bytes, large enough that sending never waits for the server.
BUFFER = 1 << 20
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Load:
    """The load to send.

    Args:
        port: the port on 127.0.0.1.
        people: the number of the first person; each event takes the next number.
        seconds: the time during which requests are sent.
        connections: the maximum of requests in flight.
        events: the number of events in a request. Several events are sent as an array.
        rate: requests a second, at random times; None to send as fast as answers arrive.
    """

    port: int
    people: int
    seconds: float
    connections: int
    events: int = 1
    rate: float | None = None


class Answered(NamedTuple):
    """One answered request.

    Args:
        person: the number of its first person.
        at: the scheduled time, in seconds since 1970.
        took: the seconds from then to the answer.
    """

    person: int
    at: float
    took: float


@dataclass(frozen=True)
class LoadResult:
    """The answers to a load.

    Args:
        answers: the number of answers, by status and body.
        requests: the requests in the order of their answers.
        elapsed: seconds from the first request to the last answer.
        busy: the fraction of that time in which the generator used its core.
    """

    answers: dict[str, int]
    requests: list[Answered]
    elapsed: float
    busy: float

    @classmethod
    def from_json(cls, text: str | bytes) -> "LoadResult":
        """Read the output of the process."""
        found = json.loads(text)
        return cls(**found | {"requests": [Answered(*request) for request in found["requests"]]})


class _Connection:
    """A connection with at most one request in flight."""

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
        """Return the status and body of the answer, or None while it is incomplete."""
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


def run(load: Load) -> LoadResult:
    """Send the load, and wait for the last answer."""
    prepared = requests(load.people, load.events)
    # epoll would wait for whole milliseconds.
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
    return LoadResult({a.decode(): n for a, n in answers.items()}, answered, elapsed, (_used() - used) / elapsed)


def _schedule(begins: float, load: Load) -> Iterator[float]:
    """Yield the time of each request: now, or random times like those of independent senders."""
    ends = begins + load.seconds
    if load.rate is None:
        while time.time() < ends:
            yield begins
        return
    rng, at = random.Random(load.people), begins
    while (at := at + rng.expovariate(load.rate)) < ends:
        yield at


def _used() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    json.dump(asdict(run(Load(**json.loads(sys.argv[1])))), sys.stdout)
