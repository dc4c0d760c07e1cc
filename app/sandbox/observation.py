"""
What was asked of one account: counts, the last calls, and how many at one moment for one person.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime

from app.sandbox.answers import JSONObject

LONGEST_LOG = 10_000


@dataclass
class LoggedCall:
    """
    One call as it arrived; `status` is None until it has been answered.
    """

    time: str
    method: str
    endpoint: str
    json: JSONObject | None = None
    status: int | None = None


class Observation:
    """
    Keeps count for one account.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.answers: dict[str, Counter[int]] = {}
        self.log: deque[LoggedCall] = deque(maxlen=LONGEST_LOG)
        self.most_at_once_per_person = 0
        self._at_once: Counter[str] = Counter()

    def arrived(self, method: str, endpoint: str, at: datetime) -> LoggedCall:
        """
        Notes a call by a known key; its payload and status follow.
        """
        self.calls[f"{method} {endpoint}"] += 1
        entry = LoggedCall(time=at.isoformat(), method=method, endpoint=endpoint)
        self.log.append(entry)
        return entry

    def answered(self, entry: LoggedCall, status: int) -> None:
        """
        Completes the note of a call.
        """
        entry.status = status
        self.answers.setdefault(f"{entry.method} {entry.endpoint}", Counter())[status] += 1

    def in_flight(self, person: str | None) -> Callable[[], None]:
        """
        Counts a call for this person as in flight, until what it returns is called (again is harmless).
        """
        waiting = [] if person is None else [person]
        self._at_once.update(waiting)
        self.most_at_once_per_person = max([self.most_at_once_per_person, *map(self._at_once.__getitem__, waiting)])

        def end() -> None:
            self._at_once.subtract(waiting)
            self._at_once = +self._at_once
            waiting.clear()

        return end

    def log_as_json(self) -> list[dict[str, object]]:
        """
        The last calls, oldest first.
        """
        return [asdict(entry) for entry in self.log]
