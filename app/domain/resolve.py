"""Resolves events against the exports: finds their membership changes and the exports that they start."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from app.domain.change import AudienceEvent, Kind, MembershipChange
from app.domain.export import Export, NewExport
from app.domain.ledger import BatchResult, Verdict
from app.domain.rejection import Reason, Rejection

NAME_PENDING = "Its name is being requested from Lytics."

# The exports of an audience, by audience id; an audience without exports has no key.
ExportsByAudience = Mapping[str, Sequence[Export]]


class Received(NamedTuple):
    """The result of the events of one webhook.

    Args:
        changes: the result of their membership changes.
        has_new_exports: True if exports were started, which now need a name.
    """

    accepted: int
    ignored: int
    rejected: tuple[Rejection, ...]
    changes: BatchResult
    has_new_exports: bool = False


class Resolution(NamedTuple):
    """The events of one webhook, resolved.

    Args:
        changes: the membership changes; an event has one for each export of its audience.
        sources: for each change, the index of its event.
        rejected: one rejection for each event that no export can use.
        unexported: the events of audiences without an export.
    """

    changes: tuple[MembershipChange, ...]
    sources: tuple[int, ...]
    rejected: tuple[Rejection, ...]
    unexported: tuple[AudienceEvent, ...]

    def accepted(self, verdicts: Iterable[Verdict]) -> int:
        """Return the number of events with at least one accepted change.

        Args:
            verdicts: one for each change, in order.
        """
        decided = zip(self.sources, verdicts, strict=True)
        return len({source for source, verdict in decided if verdict is Verdict.ACCEPTED})


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


@dataclass(frozen=True, slots=True)
class Resolver:
    """Resolves events.

    Args:
        usable_address: returns the address in a profile field, or None; by default it accepts any text.
        auto_export: the account for the exports of unknown audiences, started by the first event; None to start none.
    """

    usable_address: Callable[[object], str | None] = _text
    auto_export: str | None = None

    def exports_to_start(self, events: Iterable[AudienceEvent], exports: ExportsByAudience) -> list[NewExport]:
        """Return the exports to start for unknown audiences, ordered by audience id."""
        if self.auto_export is None:
            return []
        slugs: dict[str, str] = {}
        for event in events:
            if event.audience_id not in exports:
                slugs.setdefault(event.audience_id, event.audience_slug)
        return [
            NewExport(audience_id, slug, self.auto_export, "email", {}, reason=NAME_PENDING)
            for audience_id, slug in sorted(slugs.items())
        ]

    def resolve(self, events: Sequence[AudienceEvent], exports: ExportsByAudience) -> Resolution:
        """Resolve events. Each export reads the address from its own field."""
        changes: list[MembershipChange] = []
        sources: list[int] = []
        rejected: list[Rejection] = []
        unexported: list[AudienceEvent] = []
        for number, event in enumerate(events):
            targets = exports.get(event.audience_id, ())
            event_changes = [change for export in targets if (change := self._change(event, export)) is not None]
            if not targets:
                unexported.append(event)
            elif not event_changes:
                rejected.append(_no_address(event, targets[0].email_field))
            changes += event_changes
            sources += [number] * len(event_changes)
        return Resolution(tuple(changes), tuple(sources), tuple(rejected), tuple(unexported))

    def _change(self, event: AudienceEvent, export: Export) -> MembershipChange | None:
        address = self.usable_address(event.profile.get(export.email_field))
        # A known Lytics user is found by its id, so only an enter needs an address.
        if address is None and (event.lytics_id is None or event.kind is Kind.ENTER):
            return None
        values: Mapping[str, object] = {} if event.kind is Kind.EXIT else export.vars_of(event.profile)
        return MembershipChange(
            export_id=export.id,
            kind=event.kind,
            address=address,
            lytics_id=event.lytics_id,
            moved_at_ns=event.moved_at_ns,
            message_at_ns=event.message_at_ns,
            vars=values,
            moved_on_arrival=event.moved_on_arrival,
            message_on_arrival=event.message_on_arrival,
            clock_corrected=event.clock_corrected,
        )


def _no_address(event: AudienceEvent, email_field: str) -> Rejection:
    place = "" if event.item is None else f"[{event.item}]."
    return Rejection(Reason.NO_USABLE_ADDRESS, f"{place}data.{email_field} holds no usable e-mail address.", event.item)
