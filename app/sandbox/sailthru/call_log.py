"""Logs the calls to one account: counts, the latest calls, and the concurrency per person."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime

from app.sandbox.bodies import JSONObject

LONGEST_LOG = 10_000


@dataclass
class LoggedCall:
    """One call as it arrived. `fault` is the kind of fault that it met; `status` is None until it is answered."""

    time: str
    method: str
    endpoint: str
    json: JSONObject | None = None
    fault: str | None = None
    status: int | None = None


class CallLog:
    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.answers: dict[str, Counter[int]] = {}
        self.faults: Counter[str] = Counter()
        self.over_limit: Counter[str] = Counter()
        self.most_in_a_minute: Counter[str] = Counter()
        self.latest: deque[LoggedCall] = deque(maxlen=LONGEST_LOG)
        self.most_at_once_per_person = 0
        self._at_once: Counter[str] = Counter()
        self._in_minute: dict[str, tuple[int, int]] = {}

    def arrived(self, method: str, endpoint: str, at: datetime) -> LoggedCall:
        """Log a call by a known key. Payload and status follow later."""
        self.calls[f"{method} {endpoint}"] += 1
        entry = LoggedCall(time=at.isoformat(), method=method, endpoint=endpoint)
        self.latest.append(entry)
        return entry

    def counted(self, entry: LoggedCall, *, window: int, is_over: bool) -> None:
        """Record that a call counted in this rate limit window, and whether it exceeded the limit."""
        name = f"{entry.method} {entry.endpoint}"
        latest, count = self._in_minute.get(name, (window, 0))
        self._in_minute[name] = (window, count + 1 if latest == window else 1)
        self.most_in_a_minute[name] = max(self.most_in_a_minute[name], self._in_minute[name][1])
        if is_over:
            self.over_limit[name] += 1

    def met(self, entry: LoggedCall, fault: str) -> None:
        entry.fault = fault
        self.faults[fault] += 1

    def answered(self, entry: LoggedCall, status: int) -> None:
        entry.status = status
        self.answers.setdefault(f"{entry.method} {entry.endpoint}", Counter())[status] += 1

    def in_flight(self, person: str | None) -> Callable[[], None]:
        """Count a call for this person as in flight until the returned function is called, which may happen twice."""
        waiting = [] if person is None else [person]
        self._at_once.update(waiting)
        self.most_at_once_per_person = max([self.most_at_once_per_person, *map(self._at_once.__getitem__, waiting)])

        def end() -> None:
            self._at_once.subtract(waiting)
            self._at_once = +self._at_once
            waiting.clear()

        return end

    def as_json(self) -> list[dict[str, object]]:
        """Return the latest calls, oldest first."""
        return [asdict(entry) for entry in self.latest]
