"""Starts, changes and revives exports for an operator. Each order is planned first and then executed."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.domain.audience import Audience, choose
from app.domain.destination_rules import DestinationRules
from app.domain.errors import BadOrder, CallFailed, Conflict
from app.domain.export import Export, ExportState, NewExport
from app.domain.field import ProfileField
from app.domain.fields import FieldMapping, mapping
from app.exports.needs import Exports, Lytics

DEFAULT_EMAIL_FIELD = "email"


class Action(StrEnum):
    """The effect of an order."""

    START = "start"
    UPDATE = "update"
    REVIVE = "revive"
    ADOPT = "adopt"


@dataclass(frozen=True, slots=True)
class Order:
    """An operator's order to start or change an export.

    Args:
        audience: the audience's id, slug or name.
        email_field: the Lytics field with the address; None for the export's present field, or `email`.
        fields: Lytics fields, or Lytics field → var; None for the export's present fields.
        name: replaces the audience's name in the name of the list.
        adopt: the id of the export that continues with this audience, after its own audience was deleted.
        is_paused: None keeps the present state; a new export then runs.
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
    """The effect of an order, before it is executed.

    Args:
        export: the export that is updated, is revived or adopts the audience; None for a new export.
        notes: remarks for the operator, one sentence each.
    """

    action: Action
    export: Export | None
    audience: Audience
    account: str
    email_field: str
    chosen: FieldMapping
    list_name: str
    notes: tuple[str, ...]


class ExportStarter:
    """Plans orders and executes them.

    Args:
        lytics: None without an API token; then an order must contain the audience's id and its name.
        accounts: the labels of the Sailthru authorizations.
    """

    def __init__(
        self, exports: Exports, lytics: Lytics | None, accounts: Collection[str], rules: DestinationRules
    ) -> None:
        self._exports = exports
        self._lytics = lytics
        self._accounts = accounts
        self._rules = rules

    async def plan(self, order: Order) -> Plan:
        """Plan an order without changing anything.

        Raises:
            BadOrder: the order itself is invalid.
            UnknownAudience: no audience matches; the error lists similar audiences.
            AmbiguousAudience: several audiences match; the error lists them.
            Conflict: the order conflicts with the existing exports.
            CallFailed: the order needs Lytics, and the call to Lytics failed.
        """
        if order.account not in self._accounts:
            raise BadOrder(
                f"There is no authorization {order.account!r}. There are: {', '.join(sorted(self._accounts))}.",
                reason="unknown_authorization",
            )
        audiences, notes = await self._load_audiences(order)
        audience = await self._find_audience(order, audiences)
        candidates = await self._exports.find_by_audience(audience.id)
        own = next((export for export in candidates if export.account == order.account), None)
        export = own if order.adopt is None else await self._export_to_adopt(order.adopt, order, audience, audiences)
        email_field = _email_field(order, export)
        chosen = await self._choose_fields(order, export, email_field)
        if export is not None and export.list_name is not None:
            list_name = export.list_name
        else:
            list_name = self._rules.list_name(order.name or audience.name)
            await self._require_free(order.account, list_name, own, audiences)
        if export is None:
            notes = (*notes, *self._rules.list_name_notes(order.name or audience.name))
        return Plan(
            _action(order, export),
            export,
            audience,
            order.account,
            email_field,
            chosen,
            list_name,
            (*notes, *chosen.notes),
        )

    async def carry_out(self, plan: Plan, order: Order) -> Export:
        """Execute a plan. Repeating the call is safe.

        Raises:
            Conflict: the exports have changed since the plan was made.
        """
        export = await (self._start(plan, order) if plan.export is None else self._change(plan.export, plan, order))
        is_stopped = export.state is ExportState.STOPPED
        if plan.action is Action.REVIVE or order.is_paused is None or is_stopped:
            return export
        return await (self._exports.pause(export.id) if order.is_paused else self._exports.resume(export.id))

    async def check_fields(
        self, fields: Sequence[str] | Mapping[str, str], email_field: str | None = None
    ) -> FieldMapping:
        """Map the fields to vars. Check them against Lytics' schema if Lytics answers.

        Raises:
            BadFields: one sentence for each field that can't be sent.
            BadOrder: Lytics has no field named `email_field`.
        """
        schema: list[ProfileField] | None = None
        notes: tuple[str, ...] = ()
        if self._lytics is not None:
            try:
                schema = await self._lytics.fields()
            except CallFailed as error:
                notes = (str(error),)
        chosen = mapping(fields, schema, self._rules)
        if schema is not None and email_field is not None and email_field not in {field.name for field in schema}:
            raise BadOrder(
                f"Lytics has no field {email_field!r} to take the address from. GET /lytics/fields lists its fields.",
                reason="unknown_email_field",
            )
        return FieldMapping(chosen.fields, (*notes, *chosen.notes), chosen.types)

    async def _start(self, plan: Plan, order: Order) -> Export:
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
        export, _ = await self._exports.open(new)
        return export

    async def _change(self, export: Export, plan: Plan, order: Order) -> Export:
        if plan.action is Action.ADOPT:
            export = await self._exports.adopt(export.id, plan.audience, chosen=plan.chosen)
        if export.state is ExportState.STOPPED:
            return await self._exports.revive(export.id, chosen=plan.chosen, is_paused=bool(order.is_paused))
        if (export.fields, export.field_types) != (plan.chosen.fields, plan.chosen.types):
            export = await self._exports.set_fields(export.id, plan.chosen)
        if export.list_name is None:
            export = await self._exports.name(export.id, order.name or plan.audience.name, plan.list_name)
        return export

    async def _load_audiences(self, order: Order) -> tuple[list[Audience] | None, tuple[str, ...]]:
        """Return Lytics' audiences and notes. The audiences are None if Lytics is unavailable and not needed."""
        is_optional = order.name is not None or bool(await self._exports.find_by_audience(order.audience))
        if self._lytics is None:
            if is_optional:
                return None, ("LYTICS_API_TOKEN is not set, so neither the audience nor the fields were checked.",)
            raise BadOrder(
                "LYTICS_API_TOKEN is not set, so the audience can't be looked up. Set it, or give the audience's id "
                "together with its name.",
                reason="name_needed",
            )
        try:
            return await self._lytics.audiences(), ()
        except CallFailed as error:
            if not is_optional:
                raise
            return None, (f"The audience was not checked, because the call to Lytics failed. {error}",)

    async def _find_audience(self, order: Order, audiences: list[Audience] | None) -> Audience:
        if audiences is not None:
            return choose(order.audience, audiences)
        stored = await self._exports.find_by_audience(order.audience)
        name = order.name or (stored[0].audience_name if stored else None) or order.audience
        return Audience(order.audience, stored[0].audience_slug if stored else "", name)

    async def _export_to_adopt(
        self, export_id: int, order: Order, audience: Audience, audiences: list[Audience] | None
    ) -> Export:
        export = await self._exports.get(export_id)
        if export.account != order.account:
            raise BadOrder(
                f"Export {export_id} belongs to the authorization {export.account!r}, not to {order.account!r}.",
                reason="other_authorization",
            )
        exists = audiences is not None and any(found.id == export.audience_id for found in audiences)
        if exists and export.audience_id != audience.id:
            raise Conflict(
                f"The audience of export {export_id} still exists in Lytics, so the export keeps it. Give the new "
                "audience its own list: set `name`.",
                reason="audience_exists",
            )
        return export

    async def _choose_fields(self, order: Order, export: Export | None, email_field: str) -> FieldMapping:
        if order.fields is not None:
            return await self.check_fields(order.fields, email_field)
        return FieldMapping({}) if export is None else FieldMapping(export.fields, types=export.field_types)

    async def _require_free(
        self, account: str, list_name: str, own: Export | None, audiences: list[Audience] | None
    ) -> None:
        """Refuse a list that belongs to another export, because each export would remove the other's members."""
        owner = await self._exports.owner_of(account, list_name)
        if owner is None or (own is not None and owner.id == own.id):
            return
        other_name = 'Choose another name for this audience\'s list: "name".'
        is_gone = audiences is not None and all(found.id != owner.audience_id for found in audiences)
        if is_gone:
            raise Conflict(
                f"Export {owner.id} keeps the list {list_name!r} for an audience that no longer exists in Lytics. If "
                f'this audience replaces it, let the export adopt it: "adopt": {owner.id}. If not: {other_name}',
                reason="audience_recreated",
                choices={"adopt": owner.id, "name": None},
            )
        raise Conflict(
            f"Export {owner.id} already keeps the list {list_name!r}. {other_name}",
            reason="list_taken",
            choices={"name": None},
        )


def _email_field(order: Order, export: Export | None) -> str:
    if export is None:
        return order.email_field or DEFAULT_EMAIL_FIELD
    if order.email_field is not None and order.email_field != export.email_field:
        raise Conflict(
            f"Export {export.id} reads addresses from {export.email_field!r}. This field cannot change after the "
            "start, because it identifies the members of the list.",
            reason="email_field_fixed",
        )
    return export.email_field


def _action(order: Order, export: Export | None) -> Action:
    if export is None:
        return Action.START
    if order.adopt is not None:
        return Action.ADOPT
    return Action.REVIVE if export.state is ExportState.STOPPED else Action.UPDATE
