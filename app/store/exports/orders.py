"""Orders of operators: open, name, pause, resume, stop, revive and adopt an export. Each is one transaction.

Work on every member, such as cancelling pending changes, is only marked here. The worker does it in batches, see
`app.store.members.batches`.
"""

from datetime import datetime

from sqlalchemy import Connection, exists, select, update

from app.domain.audience import Audience
from app.domain.errors import Conflict
from app.domain.export import Export, ExportState, NewExport
from app.domain.fields import FieldMapping
from app.domain.list_check import ListChange
from app.store.database.statements import insert_or_nothing
from app.store.exports.rows import export_of, one_export
from app.store.schema import exports, memberships, totals

NAMELESS = frozenset({ExportState.NEEDS_NAME, ExportState.NAME_TAKEN})


def open_export(connection: Connection, new: NewExport, now: datetime) -> tuple[Export, bool]:
    """Return the export of an audience to an account, and whether it is new. An existing one is not changed.

    Raises:
        Conflict: another export of the account keeps the list.
    """
    known = _find_by_audience(connection, new)
    if known is not None:
        return known, False
    state = ExportState.PAUSED if new.is_paused else ExportState.RUNNING
    row = {
        "audience_id": new.audience_id,
        "audience_slug": new.audience_slug,
        "audience_name": new.audience_name,
        "account": new.account,
        "email_field": new.email_field,
        "fields": dict(new.fields),
        "field_types": dict(new.field_types),
        "list_name": new.list_name,
        "state": ExportState.NEEDS_NAME if new.list_name is None else state,
        "reason": new.reason,
        "created_at": now,
    }
    inserted = connection.execute(insert_or_nothing(connection, exports).returning(exports.c.id), [row]).one_or_none()
    opened = _find_by_audience(connection, new)
    if opened is None:
        raise Conflict(f"Another export already keeps the list {new.list_name!r}. Choose another name.")
    connection.execute(insert_or_nothing(connection, totals), [{"export_id": opened.id}])
    return opened, inserted is not None


def name(connection: Connection, export_id: int, audience_name: str, list_name: str) -> Export:
    """Give a nameless export its audience's name and its list; it then runs.

    If another export of the account already keeps that list, the state becomes `name_taken`.

    Raises:
        Conflict: the export has a name already.
    """
    export = one_export(connection, export_id, is_locked=True)
    if export.state not in NAMELESS:
        raise Conflict(
            f"Export {export_id} already keeps the list {export.list_name!r}. "
            "A name can be given only in the states needs_name and name_taken."
        )
    owner = owner_of(connection, export.account, list_name)
    values: dict[str, object]
    if owner is None:
        # The worker makes pending members due in batches, from the lowest member id on.
        values = {"list_name": list_name, "state": ExportState.RUNNING, "reason": None, "waking_from": 0}
    else:
        reason = (
            f"Export {owner.id} already keeps the list {list_name!r}. "
            f'Give this export another name: PATCH /exports/{export_id} {{"name": "..."}}.'
        )
        values = {"state": ExportState.NAME_TAKEN, "reason": reason}
    return _set(connection, export_id, audience_name=audience_name, **values)


def owner_of(connection: Connection, account: str, list_name: str) -> Export | None:
    """Return the export of an account that keeps a list, even if it is stopped."""
    statement = select(exports).where(exports.c.account == account, exports.c.list_name == list_name)
    row = connection.execute(statement).one_or_none()
    return None if row is None else export_of(row)


def pause(connection: Connection, export_id: int) -> Export:
    """Store the changes of an export without delivering them.

    Raises:
        Conflict: the export has no name yet, or is stopped.
    """
    export = one_export(connection, export_id, is_locked=True)
    _require_list(export)
    if export.state is not ExportState.RUNNING:
        return export
    return _set(connection, export_id, state=ExportState.PAUSED)


def resume(connection: Connection, export_id: int) -> Export:
    """Deliver the pending changes of an export and all later ones.

    After a list change, the current list is accepted. If it was deleted or replaced, the state of all confirmed members
    becomes unknown, see `app.store.members.batches.mark_unconfirmed`.

    Raises:
        Conflict: the export has no name yet, or is stopped.
    """
    export = one_export(connection, export_id, is_locked=True)
    _require_list(export)
    if export.state is ExportState.RUNNING:
        return export
    values: dict[str, object] = {"list_change": None, "list_others": None, "waking_from": 0, "reason": None}
    if export.list_change in {ListChange.GONE, ListChange.REPLACED}:
        values |= {"list_id": None, "list_ready_at": None, "doubting_from": 0}
    return _set(connection, export_id, state=ExportState.RUNNING, **values)


def list_changed(connection: Connection, export_id: int, change: ListChange, reason: str) -> Export:
    """Stop delivery until an operator has checked the list. Only a running or paused export is affected."""
    export = one_export(connection, export_id, is_locked=True)
    if export.state not in {ExportState.RUNNING, ExportState.PAUSED}:
        return export
    return _set(connection, export_id, state=ExportState.LIST_CHANGED, list_change=change, reason=reason)


def stop(connection: Connection, export_id: int) -> Export:
    """Ignore new events and cancel pending changes in batches. The list stays unchanged."""
    one_export(connection, export_id, is_locked=True)
    return _set(
        connection,
        export_id,
        state=ExportState.STOPPED,
        reason="It was stopped. POST /exports with its audience starts it again.",
        list_change=None,
        waking_from=None,
    )


def revive(connection: Connection, export_id: int, *, chosen: FieldMapping, is_paused: bool) -> Export:
    """Let a stopped export run again, or pause it. Without a list it first needs a name.

    Raises:
        Conflict: changes from before the stop are still being cancelled.
    """
    export = one_export(connection, export_id, is_locked=True)
    pending = exists().where(
        memberships.c.export_id == export_id, memberships.c.revision > memberships.c.confirmed_revision
    )
    if connection.scalar(select(pending)):
        raise Conflict(
            f"Export {export_id} is still being stopped: its pending changes are being cancelled. Try again soon."
        )
    state = ExportState.PAUSED if is_paused else ExportState.RUNNING
    return _set(
        connection,
        export_id,
        state=state if export.list_name is not None else ExportState.NEEDS_NAME,
        reason=None,
        **_columns(chosen),
        # The list may have been deleted meanwhile.
        list_ready_at=None,
        list_others=None,
    )


def adopt(connection: Connection, export_id: int, audience: Audience, chosen: FieldMapping) -> Export:
    """Let an export continue with another audience, which replaces a deleted one of the same name.

    Events of the new audience may already have opened a second export, which could not get the list. The second export
    is stopped, and its pending changes are taken over.

    Raises:
        Conflict: another export of the account keeps a list for that audience.
    """
    export = one_export(connection, export_id, is_locked=True)
    statement = select(exports).where(exports.c.audience_id == audience.id, exports.c.account == export.account)
    row = connection.execute(statement).one_or_none()
    if row is not None and row.id != export_id:
        other = export_of(row)
        if other.list_name is not None:
            raise Conflict(
                f"Export {other.id} keeps the list {other.list_name!r} for the audience {audience.name!r} already, so "
                f"export {export_id} can't adopt it. Stop one of them: DELETE /exports/{other.id}."
            )
        _set(
            connection,
            other.id,
            state=ExportState.STOPPED,
            audience_id=f"merged-{other.id}",
            merged_into=export_id,
            reason=f"Export {export_id} took its audience over.",
        )
    return _set(
        connection,
        export_id,
        audience_id=audience.id,
        audience_slug=audience.slug,
        audience_name=audience.name,
        **_columns(chosen),
    )


def set_fields(connection: Connection, export_id: int, chosen: FieldMapping) -> Export:
    """Choose other fields. They are sent with later changes."""
    one_export(connection, export_id, is_locked=True)
    return _set(connection, export_id, **_columns(chosen))


def _columns(chosen: FieldMapping) -> dict[str, object]:
    return {"fields": dict(chosen.fields), "field_types": dict(chosen.types)}


def _find_by_audience(connection: Connection, new: NewExport) -> Export | None:
    statement = select(exports).where(exports.c.audience_id == new.audience_id, exports.c.account == new.account)
    row = connection.execute(statement).one_or_none()
    return None if row is None else export_of(row)


def _require_list(export: Export) -> None:
    if export.state in NAMELESS:
        raise Conflict(
            f"Export {export.id} has no list yet, so there is nothing to pause or resume. Name it first: "
            f'PATCH /exports/{export.id} {{"name": "the audience\'s name"}}.'
        )
    if export.state is ExportState.STOPPED:
        raise Conflict(f"Export {export.id} is stopped. Only POST /exports with its audience starts it again.")


def _set(connection: Connection, export_id: int, **values: object) -> Export:
    connection.execute(update(exports).where(exports.c.id == export_id).values(**values))
    return one_export(connection, export_id)
