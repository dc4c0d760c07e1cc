"""Writes back the rows that a batch of changes has altered."""

from collections.abc import Iterator

from sqlalchemy import Connection, bindparam, literal_column, update

from app.domain.ledger import Entry
from app.store.database.prepared import Prepared
from app.store.database.statements import insert_or_nothing
from app.store.database.transactions import Overtaken
from app.store.history.journal import APPEND, Line
from app.store.members.loading import Loaded
from app.store.members.rows import SAVE_MEMBERSHIPS, rows_of, save_tallies
from app.store.schema import LIVE, identities, members

_INSERT_IDENTITIES = Prepared(lambda connection: insert_or_nothing(connection, identities), *identities.columns.keys())
_MOVE_IDENTITIES = Prepared(
    update(identities)
    .where(identities.c.export_id == bindparam("b_export"), identities.c.lytics_id == bindparam("b_lytics_id"))
    .values(
        moved_at_ns=bindparam("b_moved"),
        moved_message_at_ns=bindparam("b_message"),
        is_enter=bindparam("b_is_enter"),
        member_id=bindparam("b_member"),
    ),
    "b_export",
    "b_lytics_id",
    "b_moved",
    "b_message",
    "b_is_enter",
    "b_member",
)
_MAKE_DUE = Prepared(
    update(members)
    .where(members.c.id == bindparam("b_id"))
    .values(due_at=bindparam("b_due"), priority=bindparam("b_priority"), attempts=literal_column("0")),
    "b_due",
    "b_priority",
    "b_id",
)
# A live change gives a member of a backfill priority over that backfill.
_MAKE_LIVE = Prepared(
    update(members).where(members.c.id == bindparam("b_id")).values(priority=literal_column(str(LIVE))), "b_id"
)


def save(connection: Connection, loaded: Loaded) -> frozenset[str]:
    """Write back the altered rows; return the accounts that now have due members.

    Raises:
        Overtaken: another transaction has inserted one of the new identities.
    """
    ledger = loaded.ledger
    _save_identities(connection, loaded)
    due_accounts = _make_due(connection, loaded)
    changed = [ledger.memberships[key] for key in ledger.changed]
    rows = rows_of([(loaded.member_id(m.export_id, m.address), m) for m in changed])
    SAVE_MEMBERSHIPS.run(connection, rows)
    APPEND.run(connection, list(_lines(loaded)))
    seen = set[int]() if loaded.is_backfill else loaded.receiving
    save_tallies(connection, ledger.tallies, ledger.at, seen=seen)
    return due_accounts


def _save_identities(connection: Connection, loaded: Loaded) -> None:
    moved: list[tuple[object, ...]] = []
    new: list[tuple[object, ...]] = []
    for key in sorted(loaded.ledger.moved):
        identity = loaded.ledger.identities[key]
        held = identity.address
        if identity.last is not None:
            member_id = None if held is None else loaded.member_id(identity.export_id, held)
            (moved if key in loaded.stored_identities else new).append((*key, *identity.last, member_id))
    # Inserts come before updates to prevent deadlocks, because other transactions may wait for these inserts.
    if _INSERT_IDENTITIES.run(connection, new) < len(new):
        raise Overtaken
    _MOVE_IDENTITIES.run(connection, moved)


def _make_due(connection: Connection, loaded: Loaded) -> frozenset[str]:
    due: set[int] = set()
    live: set[int] = set()
    accounts: set[str] = set()
    for export_id, address in loaded.ledger.changed:
        if not (loaded.ledger.memberships[export_id, address].is_pending and loaded.is_running(export_id)):
            continue
        accounts.add(loaded.accounts[export_id])
        # A member that already has a due time keeps it: it waits for a retry, or a worker has claimed it.
        member_id = loaded.member_id(export_id, address)
        if member_id in loaded.without_due:
            due.add(member_id)
        elif member_id in loaded.postponed and not loaded.is_backfill:
            live.add(member_id)
    _MAKE_DUE.run(connection, [(loaded.ledger.at, loaded.priority, member_id) for member_id in sorted(due)])
    _MAKE_LIVE.run(connection, [(member_id,) for member_id in sorted(live)])
    return frozenset(accounts)


def _lines(loaded: Loaded) -> Iterator[Line]:
    for entry in loaded.ledger.entries:
        member_id = loaded.member_ids.get((loaded.accounts[entry.export_id], entry.address))
        if member_id is not None:
            yield Line(loaded.ledger.at, member_id, entry.export_id, "received", _detail(entry))


def _detail(entry: Entry) -> dict[str, object]:
    detail: dict[str, object] = {"kind": entry.kind.value, "verdict": entry.verdict.value}
    if entry.moved_at_ns is not None:
        detail["moved_at_ns"] = entry.moved_at_ns
    if entry.clock_corrected:
        detail["clock_corrected"] = True
    if entry.by_scan:
        detail["by_scan"] = True
    return detail
