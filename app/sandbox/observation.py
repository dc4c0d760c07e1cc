"""What was asked of one account: counts, the last calls, and how many at one moment for one person."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime

from app.sandbox.answers import JSONObject

LONGEST_LOG = 10_000


@dataclass
class LoggedCall:
    """One call as it arrived; `fault` is the kind it ran into, `status` None until it has been answered."""

    time: str
    method: str
    endpoint: str
    json: JSONObject | None = None
    fault: str | None = None
    status: int | None = None


class Observation:
    """Keeps count for one account."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.answers: dict[str, Counter[int]] = {}
        self.faults: Counter[str] = Counter()
        self.over_limit: Counter[str] = Counter()
        self.most_in_a_minute: Counter[str] = Counter()
        self.log: deque[LoggedCall] = deque(maxlen=LONGEST_LOG)
        self.most_at_once_per_person = 0
        self._at_once: Counter[str] = Counter()
        self._in_minute: dict[str, tuple[int, int]] = {}

    def arrived(self, method: str, endpoint: str, at: datetime) -> LoggedCall:
        """Notes a call by a known key; its payload and status follow."""
        self.calls[f"{method} {endpoint}"] += 1
        entry = LoggedCall(time=at.isoformat(), method=method, endpoint=endpoint)
        self.log.append(entry)
        return entry

    def counted(self, entry: LoggedCall, *, window: int, is_over: bool) -> None:
        """Notes that a call counted in this window of the limit, and whether it was over it."""
        name = f"{entry.method} {entry.endpoint}"
        latest, count = self._in_minute.get(name, (window, 0))
        self._in_minute[name] = (window, count + 1 if latest == window else 1)
        self.most_in_a_minute[name] = max(self.most_in_a_minute[name], self._in_minute[name][1])
        if is_over:
            self.over_limit[name] += 1

    def met(self, entry: LoggedCall, fault: str) -> None:
        """Notes what kind of fault a call runs into."""
        entry.fault = fault
        self.faults[fault] += 1

    def answered(self, entry: LoggedCall, status: int) -> None:
        """Completes the note of a call."""
        entry.status = status
        self.answers.setdefault(f"{entry.method} {entry.endpoint}", Counter())[status] += 1

    def in_flight(self, person: str | None) -> Callable[[], None]:
        """Counts a call for this person as in flight, until what it returns is called (again is harmless)."""
        waiting = [] if person is None else [person]
        self._at_once.update(waiting)
        self.most_at_once_per_person = max([self.most_at_once_per_person, *map(self._at_once.__getitem__, waiting)])

        def end() -> None:
            self._at_once.subtract(waiting)
            self._at_once = +self._at_once
            waiting.clear()

        return end

    def log_as_json(self) -> list[dict[str, object]]:
        """The last calls, oldest first."""
        return [asdict(entry) for entry in self.log]
