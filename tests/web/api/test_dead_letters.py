"""The dead-letter endpoints: list, explain and redrive."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, update

from app.explain.codes import explain
from app.sandbox.lytics import webhooks
from app.store.schema import memberships, totals
from app.web.api import dead_letters
from tests.service import LIST, Running, until

ADA, GRACE = "ada@example.com", "grace@example.com"
AN_HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)


async def make_dead_letters(service: Running, *addresses: str, code: str = "11") -> None:
    """Deliver the members and then turn their changes into dead letters."""
    for address in addresses:
        await service.webhook(webhooks.enter(address, at=AN_HOUR_AGO))

    async def is_delivered() -> bool:
        exports = await service.exports()
        return bool(exports and exports[0]["counts"]["delivered"] == len(addresses))

    def refuse(connection: Connection) -> None:
        connection.execute(update(memberships).values(dead_code=code, dead_at=AN_HOUR_AGO, confirmed="never"))
        connection.execute(update(totals).values(dead=len(addresses), delivered=0))

    await until(is_delivered)
    await service.service.database.write(refuse)


async def page(service: Running, query: str = "") -> dict[str, Any]:
    answer = await service.admin(f"/dead-letters{query}")
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json()
    return body


async def test_dead_letter_is_explained_in_the_list_and_at_the_member(service: Running) -> None:
    await make_dead_letters(service, ADA)
    (item,) = (await page(service))["items"]
    member = (await service.admin(f"/members/{ADA}")).json()
    (membership,), answered = member["memberships"], member["timeline"][-1]
    explanation = explain("11")

    assert (item["email"], item["list"], item["authorization"], item["export_id"]) == (ADA, LIST, "default", 1)
    assert (item["code"], item["desired"]) == ("11", "in")
    assert item["happened"] == explanation.happened
    assert (item["to_whom"], item["next_step"]) == (explanation.to_whom, explanation.next_step)
    assert (membership["state"], membership["code"]) == ("dead_letter", "11")
    assert membership["explanation"]["next_step"] == explanation.next_step
    assert answered["explanation"]["happened"] == explain("ok").happened


async def test_redriven_member_is_delivered(service: Running) -> None:
    """A preview changes nothing. A second redrive finds nothing."""
    await make_dead_letters(service, ADA, GRACE)
    request = {"email": " ADA@example.com", "code": 11}
    preview = await service.admin("/dead-letters/redrive", method="POST", json={**request, "preview": True})
    left = len((await page(service))["items"])
    done = await service.admin("/dead-letters/redrive", method="POST", json=request)

    async def is_delivered() -> bool:
        return bool((await service.exports())[0]["counts"]["delivered"] == 1)

    await until(is_delivered)
    again = await service.admin("/dead-letters/redrive", method="POST", json=request)
    rest = await service.admin("/dead-letters/redrive", method="POST", json={"all": True})

    assert (preview.status_code, preview.json(), left) == (200, {"redriven": 0, "would_redrive": 1}, 2)
    assert (done.status_code, done.json()) == (200, {"redriven": 1})
    assert again.json() == {"redriven": 0}
    assert rest.json() == {"redriven": 1}


async def test_pages_follow_by_cursor_and_filters_apply(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "PAGE_SIZE", 1)
    await make_dead_letters(service, ADA, GRACE)
    first = await page(service)
    second = await page(service, f"?cursor={first['next']}")
    sizes = [
        len((await page(service, query))["items"]) for query in ("?export=2", "?code=99", "?email=Grace@example.com")
    ]

    assert [letters["items"][0]["email"] for letters in (first, second)] == [ADA, GRACE]
    assert second["next"] is None
    assert sizes == [0, 0, 1]


@pytest.mark.parametrize(
    "request_body",
    [{}, {"preview": True}, {"all": False}, {"all": True, "code": "11"}, {"all": True, "export": 1, "preview": True}],
)
async def test_redrive_needs_either_filters_or_all(service: Running, request_body: dict[str, object]) -> None:
    """An incomplete request must not redrive all dead letters."""
    answer = await service.admin("/dead-letters/redrive", method="POST", json=request_body)

    assert answer.status_code == 422
    assert '{"all": true}' in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/dead-letters/redrive", {"code": True}),
        ("POST", "/dead-letters/redrive", {"code": ""}),
        ("POST", "/dead-letters/redrive", {"export": 0}),
        ("POST", "/dead-letters/redrive", {"unknown": True}),
        ("GET", "/dead-letters?cursor=1", None),
        ("GET", f"/dead-letters?cursor=1-{'9' * 19}", None),
        ("GET", "/dead-letters?export=x", None),
    ],
)
async def test_invalid_parameter_answers_422(service: Running, method: str, path: str, body: object) -> None:
    answer = await service.admin(path, method=method, json=body)

    assert answer.status_code == 422


async def test_both_endpoints_need_an_admin_token(service: Running) -> None:
    answers = [
        await service.http.get("/dead-letters"),
        await service.http.post("/dead-letters/redrive", json={"all": True}),
    ]

    assert [answer.status_code for answer in answers] == [401, 401]
