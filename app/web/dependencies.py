"""The parts of the service that routes use. `create_app` puts them into `app.state.dependencies`."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request

from app.domain.account import AccountReport
from app.domain.export import Export
from app.exports.start import ExportStarter
from app.lytics.client import LyticsClient
from app.store.backfills.backfills import Backfills
from app.store.database.engine import Database
from app.store.erasure.erasures import Erasures
from app.store.exports.exports import Exports
from app.store.history.journal import Journal
from app.store.history.rejected import RejectedEvents
from app.store.members.dead_letters import DeadLetters
from app.store.members.members import Members


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The objects and functions that routes call.

    Args:
        lytics: None if LYTICS_API_TOKEN is not set.
        is_ready: returns True between start-up and draining.
        clock: returns the time, aware and in UTC.
        authorizations: reports the state of each Sailthru account.
        is_silent: returns True while an export, given by id, receives no webhooks although it did before.
        make_list: tries to create an export's list now.
        exports_changed: wakes the loops that name exports and apply orders to them.
        backfill_started: wakes the loop that runs backfills.
        wake: wakes the delivery loop of an account, given by label.
        metrics: renders the metrics in the text format of Prometheus.
        admin_tokens: the tokens by label.
        metrics_tokens: the tokens by label; may be empty.
    """

    database: Database
    exports: Exports
    starter: ExportStarter
    backfills: Backfills
    members: Members
    journal: Journal
    dead_letters: DeadLetters
    rejected_events: RejectedEvents
    erasures: Erasures
    lytics: LyticsClient | None
    is_ready: Callable[[], bool]
    clock: Callable[[], datetime]
    authorizations: Callable[[], list[AccountReport]]
    is_silent: Callable[[int], bool]
    make_list: Callable[[Export], Awaitable[None]]
    exports_changed: Callable[[], None]
    backfill_started: Callable[[], None]
    wake: Callable[[str], None]
    metrics: Callable[[], Awaitable[bytes]]
    admin_tokens: Mapping[str, str] = field(repr=False)
    metrics_tokens: Mapping[str, str] = field(repr=False)


# A coroutine, because FastAPI runs plain functions in a thread.
async def _dependencies(request: Request) -> Dependencies:
    dependencies: Dependencies = request.app.state.dependencies
    return dependencies


Injected = Annotated[Dependencies, Depends(_dependencies)]
