"""Finds an export by the reference on the command line."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.commands.remedies import command
from app.commands.service import Service, audience_line
from app.domain.errors import ServiceRefused

Export = Mapping[str, Any]


def find_export(service: Service, reference: str) -> Export:
    """Return the export as `GET /exports` shows it; see `choose`."""
    return choose(service.get("/exports").data["items"], reference)


def choose(exports: Sequence[Export], reference: str) -> Export:
    """Return the export with this number, or else the only export with this audience id, slug, name or list name.

    Raises:
        ServiceRefused: no export matches, or several do. The candidates are listed.
    """
    for export in exports:
        if str(export["id"]) == reference:
            return export
    found = [export for export in exports if reference in _names(export)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ServiceRefused(f"{reference} matches several exports. Use the number of one:", _lines(found))
    if not exports:
        raise ServiceRefused(f"There are no exports yet. Start one: {command('export start AUDIENCE')}.")
    raise ServiceRefused(f"There is no export {reference}. There are:", _lines(exports))


def _names(export: Export) -> set[str | None]:
    audience = export["audience"]
    return {audience["id"], audience["slug"], audience["name"], export["list"]}


def _lines(exports: Sequence[Export]) -> list[str]:
    return [f"{export['id']}  {audience_line(export['audience'])}  ({export['authorization']})" for export in exports]
