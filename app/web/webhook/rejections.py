"""Puts on record what a webhook's sender is told can't be kept; whether that works changes no answer."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import structlog

from app.domain.errors import StoreUnavailable
from app.domain.rejection import Reason, Rejection
from app.lytics.sketch import sketch, sketch_beginning
from app.store.history.rejected import RejectedEvent
from app.web.webhook.body import RefusedBody

log = structlog.get_logger(__name__)

# One bad batch must not push everything else out of the record.
MOST_OF_ONE_REQUEST = 50


class Records(Protocol):
    """Where rejected events are kept."""

    async def record(self, events: Sequence[RejectedEvent]) -> None:
        """Keep those of one request."""
        ...


class Refusals:
    """Takes the notes."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def note(self, body: bytes, rejected: Sequence[Rejection], at: datetime) -> None:
        """What could not be kept of a body: each message once for each reason, the first fifty."""
        first: dict[tuple[int | None, Reason], Rejection] = {}
        for one in sorted(rejected, key=lambda one: -1 if one.item is None else one.item):
            first.setdefault((one.item, one.reason), one)
        noted = list(first.values())[:MOST_OF_ONE_REQUEST]
        sketches = sketch(body, [one.item for one in noted])
        await self._record(
            [
                RejectedEvent(at, one.reason, one.happened, len(body), text)
                for one, text in zip(noted, sketches, strict=True)
            ]
        )

    async def note_too_large(self, error: RefusedBody, at: datetime) -> None:
        """A body that was not read to its end."""
        text = sketch_beginning(error.beginning)
        await self._record([RejectedEvent(at, error.reason, error.happened, error.body_bytes, text)])

    async def _record(self, events: Sequence[RejectedEvent]) -> None:
        # To answer 503 instead would not help: what was refused is no better for being sent again.
        try:
            await self._records.record(events)
        except StoreUnavailable as error:
            log.warning("rejected events not recorded", events=len(events), why=str(error))
        except Exception:
            log.exception("rejected events not recorded", events=len(events))
