"""Export: the standing order to keep one list equal to one audience."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from app.domain.list_check import ListChange
from app.domain.typed import typed
from app.domain.values import storable


class ExportState(StrEnum):
    """States of an export. Changes are delivered only while it is `running`.

    In `needs_name`, `name_taken` and `paused`, changes are stored for later. In `stopped`, new events are ignored. In
    `list_changed`, changes wait until an operator has checked the list.
    """

    NEEDS_NAME = "needs_name"
    NAME_TAKEN = "name_taken"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    LIST_CHANGED = "list_changed"


@dataclass(frozen=True, slots=True)
class Export:
    """One audience exported to one Sailthru account.

    Args:
        account: label of the Sailthru authorization in the settings.
        email_field: the Lytics field with the address.
        fields: Lytics field → Sailthru var.
        field_types: Lytics field → type in Lytics' schema, where known.
        list_name: None until the audience's name is known and free.
        list_ready_at: when the list was first seen in Sailthru.
        reason: why it does not run or has no list, as text for operators.
        list_change: what happened to the list, while the state is `list_changed`.
        list_others: number of addresses on the list that are not confirmed members, at the last check, plus or minus
            `list_others_in_doubt`; None before the first check.
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
        """Return the chosen fields of a profile as vars, in the types of Lytics' schema.

        Absent and null fields are left out, and so are values that cannot be stored or sent.
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
    """An export to create.

    Args:
        list_name: None if the audience's name is not known yet; the state is then `needs_name`.
        fields: Lytics field → Sailthru var.
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


@dataclass(frozen=True, slots=True)
class ListTurn:
    """The result of asking for the turn to create a list.

    Args:
        is_ours: True if the caller has the turn until its lease ends; False if another worker has it.
        is_ready: True if the list exists, so that no turn is needed.
    """

    is_ours: bool
    is_ready: bool
