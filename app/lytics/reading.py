"""Reads audiences, fields and scan pages from the JSON of Lytics' API, v2 or v1. No I/O.

Invalid entries of a list are skipped.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from app.domain.audience import Audience
from app.domain.errors import NotFound
from app.domain.field import ProfileField
from app.domain.scan import ScanPage
from app.lytics.protocol import unreadable
from app.lytics.wire import Page, SchemaField, SchemaTable, Segment

ORDINARY_KINDS = frozenset({None, "", "segment"})
ORDINARY_TABLES = frozenset({None, "", "user"})

_Model = TypeVar("_Model", bound=BaseModel)


def audience_in(document: object) -> Audience:
    """Return the audience of an answer.

    Raises:
        NotFound: the audience is deleted or has no name.
        Transient: code `unreadable`.
    """
    segment = _read(Segment, _data(document))
    if segment is None:
        raise unreadable()
    if segment.deleted is True:
        raise NotFound("This audience is deleted in Lytics.")
    audience = _audience(segment)
    if audience is None:
        raise NotFound("This audience has no name in Lytics, so its list can't be named after it.")
    return audience


def audiences_in(document: object) -> list[Audience]:
    """Return the audiences that can be exported, without duplicates.

    Audiences that are deleted, invalid, nameless or not of people are skipped.

    Raises:
        Transient: code `unreadable`.
    """
    segments = (_read(Segment, entry) for entry in _entries(_data(document)))
    audiences = (
        _audience(segment)
        for segment in segments
        if segment is not None
        and segment.deleted is not True
        and segment.invalid is not True
        and segment.kind in ORDINARY_KINDS
        and segment.table in ORDINARY_TABLES
    )
    return list({audience.id: audience for audience in audiences if audience is not None}.values())


def fields_in(document: object) -> list[ProfileField]:
    """Return the fields of the schema, without duplicates.

    v1 may list an identifier by name only. It becomes a field of unknown type.

    Raises:
        Transient: code `unreadable`.
    """
    data = _data(document)
    identifiers: set[str] = set()
    if isinstance(data, dict):
        table = _read(SchemaTable, data)
        if table is None:
            raise unreadable()
        entries = table.columns if table.fields is None else table.fields
        identifiers = {name for name in table.by_fields or () if isinstance(name, str) and name}
        if entries is None and not identifiers:
            raise unreadable()
        data = entries
    fields = {}
    for field in (_read(SchemaField, entry) for entry in _entries(data)):
        if field is not None:
            is_identifier = field.is_identifier or field.name in identifiers
            fields[field.name] = ProfileField(
                field.name, field.type or "", is_identifier, field.is_pii, (field.shortdesc or "").strip()
            )
    for name in sorted(identifiers - fields.keys()):
        fields[name] = ProfileField(name, "", is_identifier=True)
    return list(fields.values())


def page_in(document: object, answered_at: datetime | None) -> ScanPage:
    """Return one page of a scan. A page whose data is null is empty.

    Raises:
        Transient: code `unreadable`.
    """
    page = _read(Page, document)
    if page is None:
        raise unreadable()
    entries = page.data or []
    rows = tuple(entry for entry in entries if isinstance(entry, dict))
    return ScanPage(rows, page.next or None, page.total, answered_at, len(entries) - len(rows))


def _data(document: object) -> object:
    if not isinstance(document, dict) or "data" not in document:
        raise unreadable()
    return document["data"]


def _entries(data: object) -> Iterator[object]:
    """Yield the entries of a list. Null counts as an empty list: Go writes empty lists that way."""
    if data is not None and not isinstance(data, list):
        raise unreadable()
    yield from data or ()


def _read(model: type[_Model], value: object) -> _Model | None:
    try:
        return model.model_validate(value)
    except ValidationError:
        return None


def _audience(segment: Segment) -> Audience | None:
    if not segment.name or not segment.name.strip():
        return None
    return Audience(segment.id, segment.slug_name or "", segment.name, segment.size)
