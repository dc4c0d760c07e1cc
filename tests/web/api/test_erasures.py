"""Erasing a person through the doors, with the sandbox as Sailthru: what an operator sees, and what Sailthru is
told.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from structlog.testing import capture_logs

from app.domain.errors import BadSettings
from app.main import create_app
from app.sandbox import webhooks
from app.settings import Settings
from tests.service import LIST, Running, running, settings, until

ADA, GRACE = "ada@example.com", "grace@example.com"
AN_HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)
KEY = "erasure-key-of-the-tests"


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Running]:
    """A service that can erase people, with two of them on the list."""
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
    found: dict[str, Any] = answer.json()
    return found


def confirmed(service: Running) -> list[dict[str, Any]]:
    """What was asked of Sailthru about people, in order."""
    state: Any = service.sailthru.state()
    (account,) = state["accounts"].values()
    return [one for one in account["calls_log"] if one["endpoint"] == "/user"]


async def test_the_person_is_forgotten_and_kept_out(service: Running) -> None:
    """In any spelling of the address; the page of the person says since when, and a webhook hears that it was
    ignored.
    """
    before = len(confirmed(service))
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
    assert len(confirmed(service)) == before


async def test_by_default_nothing_happens_in_sailthru(service: Running) -> None:
    """Lists and people are touched only if just that was asked for."""
    before = service.sailthru.state()
    await call(service, "DELETE", f"/members/{ADA}")

    assert service.on_list() == {ADA, GRACE}
    assert service.sailthru.state() == before


async def test_asked_for_the_person_is_first_taken_off_the_lists(service: Running) -> None:
    """By an ordinary leave, which deletes nobody and writes no opt-out; while it lasts the answer names the list."""
    before = len(confirmed(service))
    first = await call(service, "DELETE", f"/members/{ADA}?leave_lists=true")

    async def is_gone() -> bool:
        return not (await call(service, "DELETE", f"/members/{ADA}?leave_lists=true"))["leaving"]

    await until(is_gone)
    shown = await call(service, "GET", f"/members/{ADA}")
    (leave,) = confirmed(service)[before:]

    assert first == {"erased": True, "leaving": [LIST]}
    assert service.on_list() == {GRACE}
    assert leave["json"]["lists"] == {LIST: 0}
    assert set(leave["json"]) & {"vars", "optout_email"} == set()
    assert leave["method"] == "POST"
    assert (shown["memberships"], shown["timeline"]) == ([], [])


async def test_a_stranger_is_kept_out_and_the_answer_says_nobody_was_known(service: Running) -> None:
    """An address with an international domain is the same in both its spellings."""
    answers = [
        await call(service, "DELETE", f"/members/{address}")
        for address in ("Stranger@bücher.example", "stranger@xn--bcher-kva.example")
    ]
    late = await service.webhook(webhooks.enter("stranger@xn--bcher-kva.example", at=datetime.now(UTC)))

    assert answers == [{"erased": False, "leaving": []}] * 2
    assert late.json()["ignored"] == 1


async def test_an_address_with_a_slash_is_erased_and_lifted_as_others_are(service: Running) -> None:
    """The log names the route as for every other address."""
    address = "ada/orders@example.com"
    await service.webhook(webhooks.enter(address, at=AN_HOUR_AGO))
    with capture_logs() as logs:
        erased = await call(service, "DELETE", f"/members/{quote(address, safe='')}")
        lifted = await call(service, "DELETE", f"/erasures/{quote(address, safe='')}")

    assert (erased["erased"], lifted) == (True, {"lifted": True})
    routes = [line["route"] for line in logs if "route" in line]
    assert routes == ["/members/{email}", "/erasures/{email}"]


async def test_a_lifted_person_comes_again_with_the_next_event(service: Running) -> None:
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
async def test_without_a_key_nobody_is_erased(tmp_path: Path, path: str) -> None:
    """The problem says how to make one, and nothing is changed."""
    async with running(tmp_path) as service:
        await service.webhook(webhooks.enter(ADA, at=AN_HOUR_AGO))
        refused = await service.admin(path, method="DELETE")
        shown = await call(service, "GET", f"/members/{ADA}")

    assert refused.status_code == 409
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert all(word in refused.json()["detail"] for word in ("ERASURE_KEY", "secrets.token_urlsafe", ".env"))
    assert (len(shown["memberships"]), shown["erased_at"]) == (1, None)


@pytest.mark.parametrize("path", [f"/members/{ADA}", f"/erasures/{ADA}"])
async def test_only_operators_erase(service: Running, path: str) -> None:
    """A webhook's token is not enough; and what was asked for wrongly is refused."""
    refused = await service.http.request("DELETE", path, headers=service.token)
    unclear = await service.admin(f"/members/{ADA}?leave_lists=perhaps", method="DELETE")
    shown = await call(service, "GET", f"/members/{ADA}")

    assert (refused.status_code, unclear.status_code) == (401, 422)
    assert shown["erased_at"] is None


async def test_every_answer_stands_in_the_description(service: Running) -> None:
    described = (await call(service, "GET", "/openapi.json"))["paths"]

    for path in ("/members/{email}", "/erasures/{email}"):
        assert {"200", "401", "409", "422", "503"} <= set(described[path]["delete"]["responses"])


async def test_no_log_names_who_was_erased(service: Running) -> None:
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

    async def test_without_the_key_the_start_is_refused(self, tmp_path: Path) -> None:
        """Else who was erased would come back unseen; with the key all is well."""
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

    async def test_with_another_key_it_starts_and_says_who_is_not_kept_out(self, tmp_path: Path) -> None:
        """The former key may be lost, and the work goes on."""
        await self.erase(tmp_path)
        app = create_app(self.again(tmp_path, erasure_key="another-key-of-the-tests"))
        with capture_logs() as logs:
            async with app.router.lifespan_context(app):
                pass
        (line,) = [line for line in logs if line["log_level"] == "error"]

        assert line["people"] == 1
        assert "erase them again" in line["next_step"]
