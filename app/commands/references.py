"""Which export somebody means: by its number, or by a name of its audience."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.commands.service import Service, audience_line
from app.domain.errors import ServiceSaidNo

Export = Mapping[str, Any]


def find_export(service: Service, reference: str) -> Export:
    """The export that is meant, as `GET /exports` tells it; see `choose`."""
    return choose(service.get("/exports").data["items"], reference)


def choose(exports: Sequence[Export], reference: str) -> Export:
    """The export of this id; else the only one whose audience has exactly this id, slug or name, or whose list has this
    name.

    Raises:
        ServiceSaidNo: there is none, or more than one; those that may have been meant are its candidates.
    """
    for export in exports:
        if str(export["id"]) == reference:
            return export
    found = [export for export in exports if reference in _names(export)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ServiceSaidNo(f"{reference} may mean several exports; say which by its number:", _lines(found))
    if not exports:
        raise ServiceSaidNo("There are no exports yet. export start AUDIENCE starts one.")
    raise ServiceSaidNo(f"There is no export {reference}. There are:", _lines(exports))


def _names(export: Export) -> set[str | None]:
    audience = export["audience"]
    return {audience["id"], audience["slug"], audience["name"], export["list"]}


def _lines(exports: Sequence[Export]) -> list[str]:
    return [f"{one['id']}  {audience_line(one['audience'])}  ({one['authorization']})" for one in exports]
