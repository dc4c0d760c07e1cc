"""Stores membership changes: loads the rows that they may touch, decides, and saves."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection

from app.domain.change import MembershipChange
from app.domain.erasure import Digests
from app.domain.export import Export
from app.domain.ledger import BatchResult, Verdict
from app.store.members.loading import load
from app.store.members.saving import save


def apply_changes(
    connection: Connection,
    batches: Sequence[Sequence[MembershipChange]],
    now: datetime,
    digests: Digests | None,
    *,
    known: Iterable[Export] = (),
) -> list[BatchResult]:
    """Apply several batches of changes in one pass; return the result of each.

    The caller must hold the lock on the table of exports, at least in shared mode.

    Args:
        digests: recognize erased addresses and users; None if no erasure key is set.
        known: exports that were read in this transaction.
    """
    changes = [change for batch in batches for change in batch]
    if not changes:
        return [BatchResult((), frozenset()) for _ in batches]
    loaded, admitted = load(connection, changes, now, digests, known=known)
    decided = [Verdict.IGNORED if change is None else loaded.ledger.apply(change) for change in admitted]
    due_accounts = save(connection, loaded)
    verdicts = iter(decided)
    return [BatchResult(tuple(next(verdicts) for _ in batch), due_accounts) for batch in batches]
