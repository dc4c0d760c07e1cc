"""Converts rows of exports to objects."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Row, select

from app.domain.errors import NotFound
from app.domain.export import Export, ExportState
from app.domain.list_check import ListChange
from app.store.database.dialect import lock_table
from app.store.database.prepared import Prepared
from app.store.database.statements import among
from app.store.schema import exports

_OF_AUDIENCES = Prepared(
    select(exports).where(among(exports.c.audience_id, "audience_ids")).order_by(exports.c.id), "audience_ids"
)


def export_of(row: Row[Any]) -> Export:
    return Export(
        id=row.id,
        audience_id=row.audience_id,
        audience_slug=row.audience_slug,
        audience_name=row.audience_name,
        account=row.account,
        email_field=row.email_field,
        fields=row.fields,
        list_name=row.list_name,
        list_id=row.list_id,
        list_ready_at=row.list_ready_at,
        state=ExportState(row.state),
        reason=row.reason,
        created_at=row.created_at,
        list_change=None if row.list_change is None else ListChange(row.list_change),
        list_others=row.list_others,
        list_others_in_doubt=row.list_others_in_doubt,
        field_types=row.field_types,
    )


def all_exports(connection: Connection) -> list[Export]:
    """Return every export, oldest first."""
    return [export_of(row) for row in connection.execute(select(exports).order_by(exports.c.id))]


def exports_of(connection: Connection, audience_ids: Collection[str]) -> list[Export]:
    """Return the exports of these audiences, oldest first."""
    return [export_of(row) for row in _OF_AUDIENCES.fetch(connection, sorted(audience_ids))] if audience_ids else []


def one_export(connection: Connection, export_id: int, *, is_locked: bool = False) -> Export:
    """Return one export.

    Args:
        is_locked: True to prevent other transactions from changing exports or storing changes until this one ends.

    Raises:
        NotFound: no export has this id.
    """
    if is_locked:
        lock_table(connection, exports, is_exclusive=True)
    row = connection.execute(select(exports).where(exports.c.id == export_id)).one_or_none()
    if row is None:
        raise NotFound(f"There is no export {export_id}. GET /exports lists them.")
    return export_of(row)
