"""The interfaces that backfills use: the store and Lytics."""

from collections.abc import Collection, Iterable
from datetime import timedelta
from typing import Protocol

from app.domain.backfill import Backfill, BackfillClaim, Page
from app.domain.export import Export
from app.domain.scan import ScanPage


class Backfills(Protocol):
    """The stored backfills; `app.store.backfills.backfills` documents each method."""

    async def claim(self, *, lease_for: timedelta, limit: int, excluding: Collection[int]) -> list[BackfillClaim]: ...
    async def renew(self, backfill_id: int, *, lease: int, lease_for: timedelta) -> bool: ...
    async def release(self, backfill_id: int, *, lease: int) -> None: ...
    async def save(self, backfill: Backfill, *, lease: int) -> bool: ...
    async def save_page(
        self, backfill: Backfill, page: Page, *, lease: int
    ) -> tuple[Backfill, frozenset[str]] | None: ...
    async def delete_ended_dry_runs(self) -> bool: ...


class Exports(Protocol):
    async def get(self, export_id: int) -> Export: ...
    async def pending(self, export_id: int) -> int: ...


class Lytics(Protocol):
    async def scan(self, audience_id: str, *, fields: Iterable[str], start: str | None) -> ScanPage: ...
