"""Starts an export by hand: find the audience, check the fields, take the list and make it at once."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from app.domain.audience import Audience, choose, list_name, list_name_notes
from app.domain.errors import BadOrder, CallFailed, Conflict
from app.domain.export import Export, ExportState, NewExport
from app.domain.field import ProfileField
from app.domain.fields import FieldMapping, mapping

DEFAULT_EMAIL_FIELD = "email"


class Lytics(Protocol):
    """Lytics, as far as starting an export needs it."""

    async def audiences(self) -> list[Audience]:
        """All audiences that can be exported."""
        ...

    async def fields(self) -> list[ProfileField]:
        """All fields of the profiles."""
        ...


class Exports(Protocol):
    """Where exports are kept."""

    def of_audience(self, audience_id: str) -> tuple[Export, ...]:
        """The exports of an audience."""
        ...

    async def get(self, export_id: int) -> Export:
        """One export."""
        ...

    async def owner_of(self, account: str, list_name: str) -> Export | None:
        """The export of an account that keeps a list."""
        ...

    async def open(self, new: NewExport) -> tuple[Export, bool]:
        """Make an export, or return the one there is."""
        ...

    async def name(self, export_id: int, audience_name: str) -> Export:
        """Give a nameless export its name."""
        ...

    async def set_fields(self, export_id: int, chosen: FieldMapping) -> Export:
        """Choose other fields."""
        ...

    async def revive(self, export_id: int, *, chosen: FieldMapping, is_paused: bool) -> Export:
        """Let a stopped export run again."""
        ...

    async def adopt(self, export_id: int, audience: Audience, *, chosen: FieldMapping) -> Export:
        """Let an export go on with another audience."""
        ...

    async def pause(self, export_id: int) -> Export:
        """Keep its changes, and tell nobody of them."""
        ...

    async def resume(self, export_id: int) -> Export:
        """Tell what waits."""
        ...


class Action(StrEnum):
    """What an order comes to."""

    START = "start"
    UPDATE = "update"
    REVIVE = "revive"
    ADOPT = "adopt"


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator orders.

    Args:
        audience: its id, slug or name.
        email_field: the Lytics field that holds the address; None for that of the export, or `email`.
        fields: Lytics fields, or Lytics field → Sailthru var; None to leave them as they are.
        name: names the list in the audience's place: where Lytics can't be asked, or the list is taken.
        adopt: the export that goes on with this audience, which was made again under the same name.
        is_paused: None to leave it as it is, and to let a new one run.
    """

    audience: str
    account: str
    email_field: str | None = None
    fields: Sequence[str] | Mapping[str, str] | None = None
    name: str | None = None
    adopt: int | None = None
    is_paused: bool | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What an order comes to, before anything is changed.

    Args:
        export: the one that is updated, revived or goes on with the audience; None where one is started.
        notes: what an operator should know of it.
    """

    would: Action
    export: Export | None
    audience: Audience
    account: str
    email_field: str
    chosen: FieldMapping
    list_name: str
    notes: tuple[str, ...]


class ExportStarter:
    """Plans orders and carries them out.

    Args:
        lytics: None without an API token; then an order names audiences by id, and the list by name.
        accounts: the labels of the Sailthru authorizations.
    """

    def __init__(self, exports: Exports, lytics: Lytics | None, accounts: Collection[str]) -> None:
        self._exports = exports
        self._lytics = lytics
        self._accounts = accounts

    async def plan(self, order: Order) -> Plan:
        """What an order comes to; changes nothing.

        Raises:
            BadOrder: it can't be carried out by anybody.
            UnknownAudience, AmbiguousAudience: with the audiences that may be meant.
            Conflict: it does not fit the exports there are.
            CallFailed: Lytics can't be asked, and is needed.
        """
        if order.account not in self._accounts:
            raise BadOrder(
                f"There is no authorization {order.account!r}. There are: {', '.join(sorted(self._accounts))}.",
                reason="unknown_authorization",
            )
        known, unasked = await self._audiences(order)
        audience = self._audience(order, known)
        own = next((one for one in self._exports.of_audience(audience.id) if one.account == order.account), None)
        export = own if order.adopt is None else await self._adopted(order, order.adopt, audience, known)
        email_field = _email_field(order, export)
        chosen = await self._fields(order, export, email_field)
        would = _would(order, export)
        wanted = export.list_name if export is not None and export.list_name is not None else None
        name = order.name or audience.name
        if wanted is None:
            wanted = list_name(name)
            await self._require_free(order, wanted, own, known)
        notes = (*unasked, *(list_name_notes(name) if export is None else ()), *chosen.notes)
        return Plan(would, export, audience, order.account, email_field, chosen, wanted, notes)

    async def carry_out(self, plan: Plan, order: Order) -> Export:
        """Do what was planned; safe to repeat.

        Raises:
            Conflict: something has changed since.
        """
        export = await self._settle(plan, order)
        if plan.would is not Action.REVIVE and order.is_paused is not None and export.state is not ExportState.STOPPED:
            pause_or_resume = self._exports.pause if order.is_paused else self._exports.resume
            export = await pause_or_resume(export.id)
        return export

    async def _settle(self, plan: Plan, order: Order) -> Export:
        if plan.export is None:
            new = NewExport(
                audience_id=plan.audience.id,
                audience_slug=plan.audience.slug,
                account=plan.account,
                email_field=plan.email_field,
                fields=plan.chosen.fields,
                field_types=plan.chosen.types,
                audience_name=plan.audience.name,
                list_name=plan.list_name,
                is_paused=bool(order.is_paused),
            )
            opened, _ = await self._exports.open(new)
            return opened
        export = plan.export
        if plan.would is Action.ADOPT:
            export = await self._exports.adopt(export.id, plan.audience, chosen=plan.chosen)
        if export.state is ExportState.STOPPED:
            return await self._exports.revive(export.id, chosen=plan.chosen, is_paused=bool(order.is_paused))
        if (export.fields, export.field_types) != (plan.chosen.fields, plan.chosen.types):
            export = await self._exports.set_fields(export.id, plan.chosen)
        if export.list_name is None:
            export = await self._exports.name(export.id, order.name or plan.audience.name)
        return export

    async def _audiences(self, order: Order) -> tuple[list[Audience] | None, tuple[str, ...]]:
        """The audiences in Lytics, and a note; None where it can't be asked and is not needed."""
        needs_none = order.name is not None or bool(self._exports.of_audience(order.audience))
        if self._lytics is None:
            if needs_none:
                return None, ("No LYTICS_API_TOKEN is set, so neither the audience nor the fields were checked.",)
            raise BadOrder(
                "No LYTICS_API_TOKEN is set, so the audience can't be looked up: set it, or give the audience's id "
                "together with its name.",
                reason="name_needed",
            )
        try:
            return await self._lytics.audiences(), ()
        except CallFailed as failed:
            if not needs_none:
                raise
            return None, (f"The audience was not checked, since Lytics could not be asked. {failed}",)

    def _audience(self, order: Order, known: list[Audience] | None) -> Audience:
        if known is not None:
            return choose(order.audience, known)
        held = self._exports.of_audience(order.audience)
        name = order.name or (held[0].audience_name if held else None) or order.audience
        return Audience(order.audience, held[0].audience_slug if held else "", name)

    async def _adopted(self, order: Order, export_id: int, audience: Audience, known: list[Audience] | None) -> Export:
        export = await self._exports.get(export_id)
        if export.account != order.account:
            raise BadOrder(
                f"Export {export_id} is of the authorization {export.account!r}, so it can't go on for "
                f"{order.account!r}.",
                reason="other_authorization",
            )
        is_alive = known is not None and any(one.id == export.audience_id for one in known)
        if is_alive and export.audience_id != audience.id:
            raise Conflict(
                f"The audience of export {export_id} is still there in Lytics, so the export stays with it. Give the "
                "new audience a list of its own: name.",
                reason="audience_exists",
            )
        return export

    async def _fields(self, order: Order, export: Export | None, email_field: str) -> FieldMapping:
        if order.fields is None:
            return FieldMapping({}) if export is None else FieldMapping(export.fields, types=export.field_types)
        return await self.check_fields(order.fields, email_field)

    async def check_fields(
        self, fields: Sequence[str] | Mapping[str, str], email_field: str | None = None
    ) -> FieldMapping:
        """The fields as Sailthru vars, checked against Lytics' schema where it can be asked.

        Raises:
            BadFields: with one sentence for each that can't be.
            BadOrder: Lytics has no such field to take the address from.
        """
        schema: list[ProfileField] | None = None
        notes: tuple[str, ...] = ()
        if self._lytics is not None:
            try:
                schema = await self._lytics.fields()
            except CallFailed as failed:
                notes = (str(failed),)
        chosen = mapping(fields, schema)
        if schema is not None and email_field is not None and email_field not in {field.name for field in schema}:
            raise BadOrder(
                f"Lytics has no field {email_field!r} to take the address from: see GET /lytics/fields.",
                reason="unknown_email_field",
            )
        return FieldMapping(chosen.fields, (*notes, *chosen.notes), chosen.types)

    async def _require_free(self, order: Order, wanted: str, own: Export | None, known: list[Audience] | None) -> None:
        """No two audiences keep one list: each would take off the other's people."""
        owner = await self._exports.owner_of(order.account, wanted)
        if owner is None or (own is not None and owner.id == own.id):
            return
        other_name = 'Give this audience\'s list another name: "name".'
        is_gone = known is not None and all(one.id != owner.audience_id for one in known)
        if is_gone:
            raise Conflict(
                f"Export {owner.id} keeps the list {wanted!r} for an audience that is not in Lytics any more. If this "
                f'is that audience made again, let the export go on with it: "adopt": {owner.id}. If not: {other_name}',
                reason="audience_recreated",
                choices={"adopt": owner.id, "name": None},
            )
        raise Conflict(
            f"Export {owner.id} keeps the list {wanted!r} already. {other_name}",
            reason="list_taken",
            choices={"name": None},
        )


def _email_field(order: Order, export: Export | None) -> str:
    if export is None:
        return order.email_field or DEFAULT_EMAIL_FIELD
    if order.email_field is not None and order.email_field != export.email_field:
        raise Conflict(
            f"Export {export.id} takes addresses from {export.email_field!r}, which is fixed at its start, since "
            "everybody on its list is known by it.",
            reason="email_field_fixed",
        )
    return export.email_field


def _would(order: Order, export: Export | None) -> Action:
    if export is None:
        return Action.START
    if order.adopt is not None:
        return Action.ADOPT
    return Action.REVIVE if export.state is ExportState.STOPPED else Action.UPDATE
