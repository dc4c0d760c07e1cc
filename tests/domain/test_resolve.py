"""Resolver: membership changes, rejections and new exports that result from events."""

import pytest

from app.domain.change import AudienceEvent, Kind
from app.domain.export import Export, NewExport
from app.domain.ledger import Verdict
from app.domain.rejection import Reason, Rejection
from app.domain.resolve import NAME_PENDING, Resolution, Resolver
from app.lytics.address import usable_address
from tests.factories import ACCOUNT, ADA, ADA_ID, AUDIENCE, event, export

NO_ADDRESS = Rejection(Reason.NO_USABLE_ADDRESS, "data.email holds no usable e-mail address.")
RESOLVER = Resolver(usable_address)


def resolve(events: list[AudienceEvent], *exports: Export) -> Resolution:
    return RESOLVER.resolve(events, {AUDIENCE: exports} if exports else {})


def test_event_becomes_a_change_for_each_export() -> None:
    """The address is normalized, and the chosen fields become vars."""
    found = resolve([event()], export(fields={"city": "town", "age": "age"}), export(id=2, account="shop"))

    assert [(item.export_id, item.address, item.vars) for item in found.changes] == [
        (1, ADA, {"town": "Turin"}),
        (2, ADA, {}),
    ]
    assert found.sources == (0, 0)
    assert (found.rejected, found.unexported) == ((), ())


def test_exit_carries_no_vars() -> None:
    found = resolve([event(Kind.EXIT)], export(fields={"city": "town"}))

    assert [item.vars for item in found.changes] == [{}]


@pytest.mark.parametrize(
    ("kind", "lytics_id", "is_kept"),
    [
        (Kind.ENTER, ADA_ID, False),
        (Kind.EXIT, ADA_ID, True),
        (Kind.CHANGE, ADA_ID, True),
        (Kind.EXIT, None, False),
        (Kind.CHANGE, None, False),
    ],
)
def test_only_an_enter_needs_an_address_if_the_user_has_an_id(kind: Kind, lytics_id: str | None, is_kept: bool) -> None:
    found = resolve([event(kind, lytics_id=lytics_id, profile={"email": "nobody"})], export())

    assert [item.address for item in found.changes] == ([None] if is_kept else [])
    assert found.rejected == (() if is_kept else (NO_ADDRESS,))


def test_address_for_one_export_is_enough() -> None:
    """Each export reads the address from its own field."""
    found = resolve([event()], export(email_field="work_email"), export(id=2))

    assert [item.export_id for item in found.changes] == [2]
    assert found.rejected == ()


def test_rejection_says_where_the_address_is_missing() -> None:
    """The rejection names the message in the array and the field."""
    found = resolve([event(item=3)], export(email_field="work_email"))

    assert found.rejected == (
        Rejection(Reason.NO_USABLE_ADDRESS, "[3].data.work_email holds no usable e-mail address.", 3),
    )


def test_text_that_no_database_can_hold_is_removed_from_a_field() -> None:
    found = resolve(
        [event(profile={"email": ADA, "city": "Tu\x00rin\ud83d", "score": float("inf")})],
        export(fields={"city": "town", "score": "score"}),
    )

    assert [item.vars for item in found.changes] == [{"town": "Turin"}]


def test_event_of_unknown_audience_is_unexported_with_or_without_address() -> None:
    events = [event(), event(profile={})]

    assert resolve(events) == Resolution((), (), (), tuple(events))


def test_event_is_accepted_if_one_of_its_changes_is() -> None:
    """Each of the two events has changes for two exports."""
    found = resolve([event(), event(Kind.EXIT)], export(), export(id=2))

    assert found.accepted([Verdict.STALE, Verdict.ACCEPTED, Verdict.STALE, Verdict.IGNORED]) == 1


def test_unknown_audiences_are_started_once_in_order() -> None:
    """Exports are started in the order of audience ids. Audiences with an export are skipped."""
    events = [
        event(audience_id=audience_id, audience_slug=f"slug-{audience_id}") for audience_id in ("b", "a", AUDIENCE, "b")
    ]
    started = Resolver(auto_export=ACCOUNT).exports_to_start(events, {AUDIENCE: (export(),)})

    assert started == [
        NewExport(audience_id, f"slug-{audience_id}", ACCOUNT, "email", {}, reason=NAME_PENDING)
        for audience_id in ("a", "b")
    ]


def test_without_auto_export_no_audience_is_started() -> None:
    assert Resolver().exports_to_start([event()], {}) == []
