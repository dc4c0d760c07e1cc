"""Erasing a member through the API: the answers, and the calls that Sailthru receives."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from structlog.testing import capture_logs

from app.domain.errors import BadSettings
from app.main import create_app
from app.sandbox.lytics import webhooks
from app.settings import Settings
from tests.service import LIST, Running, running, settings, until

ADA, GRACE = "ada@example.com", "grace@example.com"
AN_HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)
KEY = "erasure-key-of-the-tests"


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Running]:
    """A service with an erasure key and two members on the list."""
    async with running(tmp_path, erasure_key=KEY) as service:
        for address in (ADA, GRACE):
            await service.webhook(webhooks.enter(address, at=AN_HOUR_AGO))
        await until(lambda: service.on_list() == {ADA, GRACE})

        async def is_settled() -> bool:
            return bool((await service.exports())[0]["counts"]["delivered"] == 2)

        await until(is_settled)
        yield service


async def call(service: Running, method: str, path: str) -> dict[str, Any]:
    answer = await service.admin(path, method=method)
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json()
    return body


def user_calls(service: Running) -> list[dict[str, Any]]:
    """Return the calls to /user that Sailthru received, in order."""
    state: Any = service.sailthru.state()
    (account,) = state["accounts"].values()
    return [entry for entry in account["calls_log"] if entry["endpoint"] == "/user"]


async def test_erased_member_is_deleted_and_later_events_are_ignored(service: Running) -> None:
    """The spelling of the address makes no difference."""
    before = len(user_calls(service))
    erased = await call(service, "DELETE", "/members/ADA@Example.com")
    again = await call(service, "DELETE", f"/members/{ADA}")
    late = await service.webhook(webhooks.enter(ADA, at=datetime.now(UTC)))
    shown = await call(service, "GET", f"/members/{ADA}")
    (export,) = await service.exports()

    assert erased == again == {"erased": True, "leaving": []}
    assert late.json() == {"accepted": 0, "ignored": 1, "rejected": 0}
    assert (shown["memberships"], shown["timeline"]) == ([], [])
    assert datetime.fromisoformat(shown["erased_at"]) > AN_HOUR_AGO
    assert export["members"] == 1
    assert export["counts"]["accepted"] == export["counts"]["delivered"] == 2
    assert len(user_calls(service)) == before


async def test_erasure_changes_nothing_in_sailthru_by_default(service: Running) -> None:
    before = service.sailthru.state()
    await call(service, "DELETE", f"/members/{ADA}")

    assert service.on_list() == {ADA, GRACE}
    assert service.sailthru.state() == before


async def test_leave_lists_removes_the_member_from_the_lists_first(service: Running) -> None:
    """The call is an ordinary leave, without an opt-out. Until it is confirmed, the answer names the list."""
    before = len(user_calls(service))
    first = await call(service, "DELETE", f"/members/{ADA}?leave_lists=true")

    async def is_gone() -> bool:
        return not (await call(service, "DELETE", f"/members/{ADA}?leave_lists=true"))["leaving"]

    await until(is_gone)
    shown = await call(service, "GET", f"/members/{ADA}")
    (leave,) = user_calls(service)[before:]

    assert first == {"erased": True, "leaving": [LIST]}
    assert service.on_list() == {GRACE}
    assert leave["json"]["lists"] == {LIST: 0}
    assert set(leave["json"]) & {"vars", "optout_email"} == set()
    assert leave["method"] == "POST"
    assert (shown["memberships"], shown["timeline"]) == ([], [])


async def test_unknown_address_is_blocked_too(service: Running) -> None:
    """Both spellings of an international domain are one address."""
    answers = [
        await call(service, "DELETE", f"/members/{address}")
        for address in ("Stranger@bücher.example", "stranger@xn--bcher-kva.example")
    ]
    late = await service.webhook(webhooks.enter("stranger@xn--bcher-kva.example", at=datetime.now(UTC)))

    assert answers == [{"erased": False, "leaving": []}] * 2
    assert late.json()["ignored"] == 1


async def test_address_with_a_slash_can_be_erased_and_lifted(service: Running) -> None:
    """The access log contains the route instead of the address."""
    address = "ada/orders@example.com"
    await service.webhook(webhooks.enter(address, at=AN_HOUR_AGO))
    with capture_logs() as logs:
        erased = await call(service, "DELETE", f"/members/{quote(address, safe='')}")
        lifted = await call(service, "DELETE", f"/erasures/{quote(address, safe='')}")

    assert (erased["erased"], lifted) == (True, {"lifted": True})
    routes = [line["route"] for line in logs if "route" in line]
    assert routes == ["/members/{email}", "/erasures/{email}"]


async def test_lifted_member_is_added_by_the_next_event(service: Running) -> None:
    await call(service, "DELETE", f"/members/{ADA}?leave_lists=true")
    await until(lambda: service.on_list() == {GRACE})
    lifted = [await call(service, "DELETE", f"/erasures/{address}") for address in ("ADA@example.com", ADA)]
    late = await service.webhook(webhooks.enter(ADA, at=datetime.now(UTC)))
    await until(lambda: service.on_list() == {ADA, GRACE})
    shown = await call(service, "GET", f"/members/{ADA}")

    assert lifted == [{"lifted": True}, {"lifted": False}]
    assert late.json()["accepted"] == 1
    assert shown["erased_at"] is None


@pytest.mark.parametrize("path", [f"/members/{ADA}", f"/members/{ADA}?leave_lists=true", f"/erasures/{ADA}"])
async def test_erasure_without_a_key_answers_409_and_changes_nothing(tmp_path: Path, path: str) -> None:
    """The answer says how to create a key."""
    async with running(tmp_path) as service:
        await service.webhook(webhooks.enter(ADA, at=AN_HOUR_AGO))
        refused = await service.admin(path, method="DELETE")
        shown = await call(service, "GET", f"/members/{ADA}")

    assert refused.status_code == 409
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert all(word in refused.json()["detail"] for word in ("ERASURE_KEY", "secrets.token_urlsafe", ".env"))
    assert (len(shown["memberships"]), shown["erased_at"]) == (1, None)


@pytest.mark.parametrize("path", [f"/members/{ADA}", f"/erasures/{ADA}"])
async def test_webhook_token_and_invalid_parameter_do_not_erase(service: Running, path: str) -> None:
    refused = await service.http.request("DELETE", path, headers=service.token)
    invalid = await service.admin(f"/members/{ADA}?leave_lists=perhaps", method="DELETE")
    shown = await call(service, "GET", f"/members/{ADA}")

    assert (refused.status_code, invalid.status_code) == (401, 422)
    assert shown["erased_at"] is None


async def test_description_lists_every_answer(service: Running) -> None:
    described = (await call(service, "GET", "/openapi.json"))["paths"]

    for path in ("/members/{email}", "/erasures/{email}"):
        assert {"200", "401", "409", "422", "503"} <= set(described[path]["delete"]["responses"])


async def test_log_contains_no_erased_address(service: Running) -> None:
    with capture_logs() as logs:
        await call(service, "DELETE", f"/members/{ADA}?leave_lists=true")
        await until(lambda: service.on_list() == {GRACE})
        await call(service, "DELETE", f"/erasures/{ADA}")

    assert [line["route"] for line in logs if "route" in line][-1] == "/erasures/{email}"
    assert "ada" not in str(logs).lower()
    assert KEY not in str(logs)


class TestRestart:
    def again(self, folder: Path, **different: Any) -> Settings:
        return settings(folder, auto_export=False, lytics_api_token=None, **different)

    async def erase(self, folder: Path) -> None:
        async with running(folder, erasure_key=KEY) as service:
            await call(service, "DELETE", f"/members/{ADA}")

    async def test_start_without_the_key_is_refused(self, tmp_path: Path) -> None:
        """Without the key, erased members could come back. With the key the service starts."""
        await self.erase(tmp_path)
        app = create_app(self.again(tmp_path))
        with pytest.raises(BadSettings, match=r"^ERASURE_KEY is not set.*\.$") as refused:
            async with app.router.lifespan_context(app):
                pass
        again = create_app(self.again(tmp_path, erasure_key=KEY))
        with capture_logs() as logs:
            async with again.router.lifespan_context(again):
                pass

        assert app.state.service.refusal is refused.value
        assert [line for line in logs if line["log_level"] != "info"] == []

    async def test_start_with_another_key_logs_how_many_erasures_have_no_effect(self, tmp_path: Path) -> None:
        """The service starts, because the former key may be lost."""
        await self.erase(tmp_path)
        app = create_app(self.again(tmp_path, erasure_key="another-key-of-the-tests"))
        with capture_logs() as logs:
            async with app.router.lifespan_context(app):
                pass
        (line,) = [line for line in logs if line["log_level"] == "error"]

        assert line["erasures"] == 1
        assert "erase the members again" in line["next_step"]
