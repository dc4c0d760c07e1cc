"""Export: an operator's wish that one audience's list be kept, and the states it can be in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from app.domain.list_check import ListChange
from app.domain.typed import typed
from app.domain.values import storable


class ExportState(StrEnum):
    """Only a `running` export is delivered; `needs_name`, `name_taken` and `paused` keep their changes; `stopped` takes
    no more; `list_changed` waits for a person to look at the list.
    """

    NEEDS_NAME = "needs_name"
    NAME_TAKEN = "name_taken"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    LIST_CHANGED = "list_changed"


@dataclass(frozen=True, slots=True)
class Export:
    """One audience brought to one Sailthru account.

    Args:
        account: the label of the Sailthru authorization in the settings.
        email_field: the Lytics field that holds the address.
        fields: which Lytics fields go along, and as which Sailthru vars.
        field_types: their types in Lytics' schema, as far as they are known.
        list_name: the Sailthru list; None until the audience's name is known and free.
        list_ready_at: when the list was first seen to exist in Sailthru.
        reason: why it is not running, or has no list yet, for people.
        list_change: what happened to the list, while the state is `list_changed`.
        list_others: the people on the list who are not held here, as last seen, give or take `list_others_in_doubt`;
            None before the first look.
    """

    id: int
    audience_id: str
    audience_slug: str
    audience_name: str | None
    account: str
    email_field: str
    fields: Mapping[str, str]
    list_name: str | None
    list_id: str | None
    list_ready_at: datetime | None
    state: ExportState
    reason: str | None
    created_at: datetime
    list_change: ListChange | None = None
    list_others: int | None = None
    list_others_in_doubt: int = 0
    field_types: Mapping[str, str] = field(default_factory=dict)

    def vars_of(self, profile: Mapping[str, object]) -> dict[str, object]:
        """The chosen fields of a profile under their Sailthru names, in the types that Lytics' schema says; absent and
        null ones are left out, and what no database or call can hold.
        """
        values: dict[str, object] = {}
        for name, var in self.fields.items():
            value = profile.get(name)
            value = None if value is None else storable(typed(value, self.field_types.get(name, "")))
            if value is not None:
                values[var] = value
        return values


@dataclass(frozen=True, slots=True)
class NewExport:
    """An export to be opened.

    Args:
        list_name: None where the audience's name is not known yet; then its state is `needs_name`.
        fields: which Lytics fields go along, and as which Sailthru vars.
        reason: why it has no name yet.
    """

    audience_id: str
    audience_slug: str
    account: str
    email_field: str
    fields: Mapping[str, str]
    audience_name: str | None = None
    list_name: str | None = None
    is_paused: bool = False
    reason: str | None = None
    field_types: Mapping[str, str] = field(default_factory=dict)
