"""Receives webhooks in one transaction: reads the exports, resolves events, applies changes, counts the rest."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from app.domain.change import AudienceEvent, MembershipChange
from app.domain.erasure import Digests
from app.domain.export import Export
from app.domain.ledger import BatchResult
from app.domain.resolve import Received, Resolution, Resolver
from app.store.database.dialect import lock_table
from app.store.exports.orders import open_export
from app.store.exports.rows import exports_of
from app.store.exports.unexported import count_unexported
from app.store.exports.versions import bump_exports_version
from app.store.members.changes import apply_changes
from app.store.schema import exports


class Webhook(NamedTuple):
    """The content of one webhook.

    Args:
        events: events to resolve.
        changes: membership changes that are already resolved.
    """

    events: Sequence[AudienceEvent] = ()
    changes: Sequence[MembershipChange] = ()


def receive(
    connection: Connection,
    webhooks: Sequence[Webhook],
    now: datetime,
    resolver: Resolver,
    digests: Digests | None,
) -> list[Received]:
    """Store the events and changes of several webhooks; return the result of each.

    Args:
        digests: recognize erased addresses and users; None if no erasure key is set.
    """
    # The lock keeps exports unchanged until this transaction ends.
    lock_table(connection, exports, is_exclusive=False)
    events = [event for webhook in webhooks for event in webhook.events]
    found = _exports_of(connection, events)
    started = _start_missing(connection, events, found, now, resolver)
    resolutions = [resolver.resolve(webhook.events, found) for webhook in webhooks]
    results = apply_changes(
        connection,
        [(*resolution.changes, *webhook.changes) for resolution, webhook in zip(resolutions, webhooks, strict=True)],
        now,
        digests,
        known=(export for of_audience in found.values() for export in of_audience),
    )
    unexported = [(e.audience_id, e.audience_slug) for resolution in resolutions for e in resolution.unexported]
    count_unexported(connection, unexported, now)
    return [
        _received(
            webhook, resolution, result, has_new_exports=not started.isdisjoint(e.audience_id for e in webhook.events)
        )
        for webhook, resolution, result in zip(webhooks, resolutions, results, strict=True)
    ]


def _exports_of(connection: Connection, events: Sequence[AudienceEvent]) -> dict[str, list[Export]]:
    found: dict[str, list[Export]] = defaultdict(list)
    for export in exports_of(connection, {event.audience_id for event in events}):
        found[export.audience_id].append(export)
    return dict(found)


def _start_missing(
    connection: Connection,
    events: Sequence[AudienceEvent],
    found: dict[str, list[Export]],
    now: datetime,
    resolver: Resolver,
) -> set[str]:
    """Start exports for unknown audiences and add them to `found`; return the audiences of new exports.

    If another replica starts the same export, the insert waits for its transaction and then finds its row. All replicas
    insert in the order of audience ids, so that they do not deadlock.
    """
    started: set[str] = set()
    for new in resolver.exports_to_start(events, found):
        export, is_new = open_export(connection, new, now)
        found[export.audience_id] = [export]
        if is_new:
            started.add(export.audience_id)
    if started:
        bump_exports_version(connection)
    return started


def _received(webhook: Webhook, resolution: Resolution, result: BatchResult, *, has_new_exports: bool) -> Received:
    verdicts = result.verdicts[: len(resolution.changes)]
    accepted = resolution.accepted(verdicts)
    return Received(
        accepted,
        ignored=len(webhook.events) - accepted - len(resolution.rejected),
        rejected=resolution.rejected,
        changes=result,
        has_new_exports=has_new_exports,
    )
