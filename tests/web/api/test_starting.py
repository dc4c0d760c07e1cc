"""POST /exports: starting, changing and reviving exports, and refused orders."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.sandbox.faults import Html
from app.sandbox.lytics import webhooks
from app.sandbox.lytics.audiences import SPRING_BUYERS, Audience
from app.sandbox.rules import Rule
from tests.service import API_KEY, LIST, Running, running, until

AUTUMN = Audience("1111", "Autumn Buyers", "autumn_buyers")
TWINS = (Audience("2222", "Twins", "twins"), Audience("3333", "Twins", "twins_1"))
MONEY = Audience("4444", "  $5 Club  ", "five_club")


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path, audiences=(SPRING_BUYERS, AUTUMN, *TWINS, MONEY)) as service:
        yield service


async def order(service: Running, status: int = 202, **parameters: object) -> dict[str, Any]:
    answer = await service.admin("/exports", method="POST", json={"audience": SPRING_BUYERS.id} | parameters)
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    return body


class TestStart:
    async def test_list_is_created_at_once(self, service: Running) -> None:
        """A flow can only be built on an existing list."""
        started = await order(service, fields=["first_name", "visitct"])
        export = started["export"]

        assert (export["state"], export["list"], export["list_ready"]) == ("running", LIST, True)
        assert export["fields"] == {"first_name": "first_name", "visitct": "visitct"}
        assert export["audience"] == {"id": SPRING_BUYERS.id, "slug": "spring_buyers", "name": "Spring Buyers"}
        assert started["backfill"] is None
        assert service.sailthru.account(API_KEY).list_names() == {LIST}

    @pytest.mark.parametrize("audience", [SPRING_BUYERS.id, SPRING_BUYERS.slug, SPRING_BUYERS.name, "spring buyers"])
    async def test_audience_is_found_by_id_slug_or_name(self, service: Running, audience: str) -> None:
        started = await order(service, audience=audience)

        assert started["export"]["audience"]["id"] == SPRING_BUYERS.id

    async def test_later_events_are_delivered_with_the_chosen_fields(self, service: Running) -> None:
        await order(service, fields={"first_name": "given_name"})
        body = webhooks.enter("ada@example.com", at=datetime.now(UTC), fields={"first_name": "Ada", "city": "Paris"})
        await service.webhook(body)
        await until(lambda: service.on_list() == {"ada@example.com"})
        profile = service.sailthru.account(API_KEY).find("email", "ada@example.com")

        assert profile is not None
        assert profile.vars == {"given_name": "Ada"}

    async def test_paused_export_stores_changes_and_delivers_them_when_resumed(self, service: Running) -> None:
        """The list is created at once."""
        started = await order(service, state="paused")
        await service.webhook(webhooks.enter("ada@example.com", at=datetime.now(UTC)))
        (paused,) = await service.exports()
        before = service.on_list()
        await service.admin("/exports/1", method="PATCH", json={"state": "running"})
        await until(lambda: service.on_list() == {"ada@example.com"})

        assert (started["export"]["state"], started["export"]["list_ready"]) == ("paused", True)
        assert (paused["counts"]["pending"], before) == (1, set())

    async def test_preview_changes_nothing(self, service: Running) -> None:
        """The notes say how the list name differs from the audience's name."""
        plan = await order(service, 200, audience="five_club", fields=["first_name"], preview=True)

        assert (plan["would"], plan["export_id"], plan["list"]) == ("start", None, "Lytics -5 Club")
        assert plan["fields"] == {"first_name": "first_name"}
        assert any("$" in note for note in plan["notes"])
        assert await service.exports() == []
        assert service.sailthru.account(API_KEY).list_names() == set()

    async def test_export_without_its_list_shows_the_reason(self, service: Running) -> None:
        service.sailthru.faults.set([Rule(Html(status=503), endpoints=frozenset({"/list"}), times=2)])
        started = await order(service)
        await until(lambda: service.sailthru.account(API_KEY).list_names() == {LIST})

        assert not started["export"]["list_ready"]
        assert "The service retries" in started["export"]["reason"]


class TestExistingExport:
    async def test_fields_are_changed_only_if_given(self, service: Running) -> None:
        await order(service, fields=["first_name"])
        again = await order(service, fields=["city"])
        unchanged = await order(service)
        (export,) = await service.exports()

        assert again["export"]["fields"] == {"city": "city"} == unchanged["export"]["fields"]
        assert export["id"] == again["export"]["id"]

    async def test_state_is_changed_only_if_given(self, service: Running) -> None:
        await order(service, state="paused")
        unchanged = await order(service)
        resumed = await order(service, state="running")

        assert [started["export"]["state"] for started in (unchanged, resumed)] == ["paused", "running"]

    async def test_email_field_cannot_be_changed(self, service: Running) -> None:
        await order(service)
        refused = await order(service, 409, email_field="city")
        same = await order(service, email_field="email")

        assert refused["reason"] == "email_field_fixed"
        assert same["export"]["email_field"] == "email"

    async def test_export_without_a_name_gets_the_given_name(self, tmp_path: Path) -> None:
        """The export had no name, because Lytics did not answer."""
        async with running(tmp_path) as service:
            service.lytics.availability.unreachable = True
            await service.webhook(webhooks.enter("ada@example.com", at=datetime.now(UTC)))
            named = await order(service, name="Spring Buyers")
            await until(lambda: service.on_list() == {"ada@example.com"})

        assert named["export"]["state"] == "running"


class TestStop:
    async def test_stopped_export_ignores_events_until_it_is_started_again(self, service: Running) -> None:
        await order(service)
        await service.webhook(webhooks.enter("ada@example.com", at=datetime.now(UTC)))
        await until(lambda: service.on_list() == {"ada@example.com"})
        stopped = (await service.admin("/exports/1", method="DELETE")).json()
        late = await service.webhook(webhooks.exit_("ada@example.com", at=datetime.now(UTC)))
        refused = await service.admin("/exports/1", method="PATCH", json={"state": "running"})
        plan = await order(service, 200, preview=True)
        revived = await order(service)
        await service.webhook(webhooks.exit_("ada@example.com", at=datetime.now(UTC)))
        await until(lambda: service.on_list() == set())

        assert stopped["state"] == "stopped"
        assert late.json() == {"accepted": 0, "ignored": 1, "rejected": 0}
        assert refused.status_code == 409
        assert "POST /exports" in refused.json()["detail"]
        assert (plan["would"], plan["export_id"]) == ("revive", 1)
        assert (revived["export"]["id"], revived["export"]["state"]) == (1, "running")

    async def test_stop_cancels_pending_changes(self, service: Running) -> None:
        await order(service, state="paused")
        await service.webhook([webhooks.enter(f"p{n}@example.com", at=datetime.now(UTC)) for n in range(20)])
        await service.admin("/exports/1", method="DELETE")

        async def is_cancelled() -> bool:
            (export,) = await service.exports()
            return bool(export["counts"]["cancelled"] == 20)

        await until(is_cancelled)
        (export,) = await service.exports()

        assert export["counts"]["pending"] == 0
        assert service.on_list() == set()


class TestRefusals:
    async def test_unknown_audience_answers_404_with_similar_ones(self, service: Running) -> None:
        problem = await order(service, 404, audience="Sprint Buyers")

        assert problem["candidates"][0] == {"id": SPRING_BUYERS.id, "slug": "spring_buyers", "name": "Spring Buyers"}

    async def test_name_of_two_audiences_answers_409_with_both(self, service: Running) -> None:
        problem = await order(service, 409, audience="Twins")

        assert {candidate["id"] for candidate in problem["candidates"]} == {"2222", "3333"}

    async def test_unknown_authorization_answers_422(self, service: Running) -> None:
        problem = await order(service, 422, authorization="other")

        assert problem["reason"] == "unknown_authorization"
        assert "There are: default." in problem["detail"]

    async def test_unknown_fields_and_two_fields_for_one_var_answer_422(self, service: Running) -> None:
        unknown = await order(service, 422, fields=["frist_name"])
        twice = await order(service, 422, fields={"first_name": "name", "last_name": "name"})
        patched = await order(service)
        answer = await service.admin(
            f"/exports/{patched['export']['id']}", method="PATCH", json={"fields": ["frist_name"]}
        )

        assert "first_name" in unknown["detail"]
        assert "name" in twice["detail"]
        assert answer.status_code == 422

    async def test_unknown_email_field_answers_422(self, service: Running) -> None:
        problem = await order(service, 422, email_field="e_mail", fields=[])

        assert problem["reason"] == "unknown_email_field"

    async def test_two_audiences_never_share_a_list(self, service: Running) -> None:
        """Each export would remove the other's members. Another name resolves the conflict."""
        await order(service, audience="2222")
        taken = await order(service, 409, audience="3333")
        named = await order(service, audience="3333", name="Twins 2")

        assert (taken["reason"], taken["choices"]) == ("list_taken", {"name": None})
        assert named["export"]["list"] == "Lytics Twins 2"

    async def test_invalid_or_misspelled_parameters_answer_422(self, service: Running) -> None:
        for wrong in ({"existing_user": True}, {"fields": "first_name"}, {"name": ""}, {"state": "stopped"}):
            await order(service, 422, **wrong)
        for patch in ({}, {"states": "paused"}, {"state": "stopped"}):
            answer = await service.admin("/exports/1", method="PATCH", json=patch)
            assert answer.status_code == 422


class TestRecreatedAudience:
    """An audience was deleted in Lytics and created again with its old name and a new id."""

    AGAIN = replace(SPRING_BUYERS, id="5555")

    async def recreate(self, service: Running) -> None:
        await order(service)
        await service.webhook(webhooks.enter("ada@example.com", at=datetime.now(UTC)))
        await until(lambda: service.on_list() == {"ada@example.com"})
        del service.lytics.audiences[SPRING_BUYERS.id]
        service.lytics.put(self.AGAIN)

    async def test_operator_must_choose_between_the_old_export_and_a_new_one(self, service: Running) -> None:
        await self.recreate(service)
        refused = await order(service, 409, audience="5555")
        adopted = await order(service, audience="5555", adopt=refused["choices"]["adopt"])
        await service.webhook(webhooks.exit_("ada@example.com", self.AGAIN, at=datetime.now(UTC)))
        await until(lambda: service.on_list() == set())

        assert (refused["reason"], refused["choices"]) == ("audience_recreated", {"adopt": 1, "name": None})
        assert (adopted["export"]["id"], adopted["export"]["audience"]["id"]) == (1, "5555")

    async def test_new_export_with_another_name_gets_its_own_list(self, service: Running) -> None:
        await self.recreate(service)
        named = await order(service, audience="5555", name="Spring Buyers II")

        assert (named["export"]["id"], named["export"]["list"]) == (2, "Lytics Spring Buyers II")

    async def test_adopting_export_takes_over_earlier_events(self, service: Running) -> None:
        """The events had started an export without a list."""
        await self.recreate(service)
        await service.webhook(webhooks.enter("grace@example.com", self.AGAIN, at=datetime.now(UTC)))

        async def is_taken() -> bool:
            return [export["state"] for export in await service.exports()] == ["running", "name_taken"]

        await until(is_taken)
        await order(service, audience="5555", adopt=1)
        await until(lambda: service.on_list() == {"ada@example.com", "grace@example.com"})
        first, second = await service.exports()

        assert (first["state"], first["audience"]["id"]) == ("running", "5555")
        assert (second["state"], second["reason"]) == ("stopped", "Export 1 took its audience over.")

    async def test_audience_is_not_adopted_while_the_old_one_exists(self, service: Running) -> None:
        await order(service)
        problem = await order(service, 409, audience="1111", adopt=1)

        assert problem["reason"] == "audience_exists"


class TestWithoutLytics:
    async def test_without_a_token_id_and_name_must_be_given(self, tmp_path: Path) -> None:
        """The notes name the missing checks."""
        async with running(tmp_path, lytics_api_token=None) as service:
            refused = await order(service, 422)
            started = await order(service, name="Spring Buyers", fields=["first_name"])
            updated = await order(service, fields=["city"])

        assert refused["reason"] == "name_needed"
        assert started["export"]["list"] == LIST
        assert any("LYTICS_API_TOKEN" in note for note in started["notes"])
        assert updated["export"]["fields"] == {"city": "city"}

    async def test_failing_lytics_answers_503_unless_a_name_is_given(self, service: Running) -> None:
        service.lytics.availability.token_expired = True
        refused = await service.admin("/exports", method="POST", json={"audience": SPRING_BUYERS.id})
        started = await order(service, name="Spring Buyers", fields=["first_name"])

        assert refused.status_code == 503
        assert refused.headers["Retry-After"]
        assert "expired" in refused.json()["detail"]
        assert started["export"]["list"] == LIST
        assert any("expired" in note for note in started["notes"])
