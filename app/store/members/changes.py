"""Keep membership changes: load the rows they may touch, decide, save."""

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
    """Keep several batches of changes as one; return what became of each.

    The table of exports must be locked before, at least shared.

    Args:
        digests: keep out erased addresses and users; None where none can be.
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
