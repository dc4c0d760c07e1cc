"""Records rejected events. A failure to record does not change the answer to the webhook."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

import structlog

from app.domain.errors import StoreUnavailable
from app.domain.rejection import Reason, Rejection
from app.lytics.sketch import sketch, sketch_beginning
from app.store.history.rejected import RejectedEvent
from app.web.webhook.body import RefusedBody

log = structlog.get_logger(__name__)

# One bad batch must not displace all other rejected events.
MAX_PER_REQUEST = 50

Record = Callable[[Sequence[RejectedEvent]], Awaitable[None]]


class RejectionLog:
    def __init__(self, record: Record) -> None:
        self._record = record

    async def write(self, body: bytes, rejections: Sequence[Rejection], at: datetime) -> None:
        """Record the first fifty rejections of a body, each reason once per message."""
        first: dict[tuple[int | None, Reason], Rejection] = {}
        for rejection in sorted(rejections, key=lambda rejection: -1 if rejection.item is None else rejection.item):
            first.setdefault((rejection.item, rejection.reason), rejection)
        recorded = list(first.values())[:MAX_PER_REQUEST]
        sketches = sketch(body, [rejection.item for rejection in recorded])
        await self._write(
            [
                RejectedEvent(at, rejection.reason, rejection.happened, len(body), text)
                for rejection, text in zip(recorded, sketches, strict=True)
            ]
        )

    async def write_too_large(self, error: RefusedBody, at: datetime) -> None:
        """Record a body that was too large, with a sketch of its first bytes."""
        text = sketch_beginning(error.beginning)
        await self._write([RejectedEvent(at, error.reason, error.happened, error.body_bytes, text)])

    async def _write(self, events: Sequence[RejectedEvent]) -> None:
        # Raise no error: a 503 would make Lytics send the same rejected events again.
        try:
            await self._record(events)
        except StoreUnavailable as error:
            log.warning("rejected events not recorded", events=len(events), why=str(error))
        except Exception:
            log.exception("rejected events not recorded", events=len(events))
