"""The whole service in one process, as an operator sees it through the API."""

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.sandbox.lytics.audiences import Audience
from tests.service import ADMIN_TOKEN, LIST, WEBHOOK_TOKEN, Running, running, until
from tests.web.webhook.messages import ADA, enter

BEN = "ben@example.com"
# Lytics allows two audiences with the same name.
NAMESAKE = Audience("f9e8d7c6b5a493827160f5e4d3c2b1a0", "Spring Buyers", "spring_buyers_1")


async def get(service: Running, path: str) -> Any:
    answer = await service.admin(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def newest_export(service: Running, **expected: object) -> dict[str, Any]:
    """Wait until the newest export has the given values, and return it."""

    async def holds() -> bool:
        exports = await service.exports()
        return bool(exports) and expected.items() <= {**exports[-1], **exports[-1]["counts"]}.items()

    await until(holds)
    return (await service.exports())[-1]


async def delivered(service: Running) -> dict[str, Any]:
    """Wait until the newest export is running without pending changes, and return it."""
    return await newest_export(service, state="running", pending=0)


async def test_enter_is_delivered_and_shown(service: Running) -> None:
    await service.webhook(enter())
    export = await delivered(service)
    member = await get(service, "/members/ADA@example.com")
    shown = await get(service, f"/exports/{export['id']}")
    metrics = (await service.admin("/metrics")).text

    assert service.on_list() == {ADA}
    assert shown["list"] == LIST
    assert shown["list_ready"]
    assert shown["members"] == 1
    assert shown["last_webhook_at"] is not None
    (membership,) = member["memberships"]
    assert (membership["desired"], membership["confirmed"], membership["state"]) == ("in", "in", "settled")
    assert [entry["what"] for entry in member["timeline"]] == ["received", "called", "answered"]
    assert 'lytics_sailthru_attempts_total{account="default",outcome="ok"} 1.0' in metrics
    assert 'lytics_sailthru_changes{export="1",state="delivered"} 1.0' in metrics


async def has_reason(service: Running, words: str) -> bool:
    exports = await service.exports()
    return bool(exports) and words in (exports[-1]["reason"] or "")


async def test_second_audience_with_the_same_name_waits_as_name_taken(service: Running) -> None:
    """Two audiences never share a list."""
    service.lytics.put(NAMESAKE)
    await service.webhook(enter())
    await delivered(service)
    await service.webhook(enter(BEN, audience=NAMESAKE))
    taken = await newest_export(service, state="name_taken")
    answer = await service.admin(f"/exports/{taken['id']}", method="PATCH", json={"name": "Spring Buyers"})
    await service.admin(f"/exports/{taken['id']}", method="PATCH", json={"name": "Spring Buyers B"})
    await delivered(service)

    assert answer.json()["state"] == "name_taken"
    assert service.on_list() == {ADA}
    assert service.on_list("Lytics Spring Buyers B") == {BEN}


async def test_failed_request_for_a_name_is_repeated(service: Running) -> None:
    """Until then the export shows the reason."""
    service.lytics.availability.unreachable = True
    await service.webhook(enter())
    await until(lambda: has_reason(service, "PATCH /exports"))
    waiting = await newest_export(service, state="needs_name")
    service.lytics.availability.unreachable = False
    service.service.exports_changed()
    await delivered(service)

    assert waiting["state"] == "needs_name"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/exports/7", 404),
        ("GET", "/exports/x", 422),
        ("GET", "/exports/0", 422),
        ("DELETE", "/exports", 405),
        ("GET", "/webhooks/lytics", 405),
    ],
)
async def test_every_error_is_a_problem(service: Running, method: str, path: str, status: int) -> None:
    answer = await service.admin(path, method=method)

    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["status"] == status


@pytest.mark.parametrize(
    "path",
    [
        "/exports",
        "/exports/1",
        "/members/ada@example.com",
        "/dead-letters",
        "/rejected-events",
        "/metrics",
        "/openapi.json",
    ],
)
async def test_api_needs_an_admin_token(service: Running, path: str) -> None:
    for token in ("", "Bearer wrong", WEBHOOK_TOKEN, f"Bearer {WEBHOOK_TOKEN}", f"Basic {ADMIN_TOKEN}"):
        answer = await service.http.get(path, headers={"Authorization": token})

        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_each_configured_admin_token_is_accepted(tmp_path: Path) -> None:
    async with running(tmp_path, admin_tokens="ada:first-token-of-the-tests,second-token-of-the-tests") as service:
        answers = [
            await service.http.get("/exports", headers={"Authorization": f"Bearer {token}"})
            for token in ("first-token-of-the-tests", "second-token-of-the-tests", "third-token-of-the-tests")
        ]

    assert [answer.status_code for answer in answers] == [200, 200, 401]


async def test_unknown_member_has_no_memberships(service: Running) -> None:
    member = await get(service, "/members/unknown@example.com")

    assert (member["memberships"], member["timeline"]) == ([], [])


async def test_description_lists_every_endpoint(service: Running) -> None:
    described = await get(service, "/openapi.json")
    operations = [operation for path in described["paths"].values() for operation in path.values()]

    assert set(described["paths"]) == {
        "/webhooks/lytics",
        "/exports",
        "/exports/{export_id}",
        "/exports/{export_id}/backfills",
        "/exports/{export_id}/backfills/{backfill_id}",
        "/members/{email}",
        "/erasures/{email}",
        "/dead-letters",
        "/dead-letters/redrive",
        "/rejected-events",
        "/lytics/audiences",
        "/lytics/fields",
        "/authorizations",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/openapi.json",
    }
    assert len({operation["operationId"] for operation in operations}) == len(operations)


async def test_description_of_the_webhook_has_its_body_and_answers(service: Running) -> None:
    webhook = (await get(service, "/openapi.json"))["paths"]["/webhooks/lytics"]

    assert set(webhook) == {"post", "put", "patch"}
    for method, operation in webhook.items():
        assert operation["operationId"] == f"{method}_webhook"
        assert set(operation["responses"]) == {"200", "400", "401", "408", "413", "503"}
        assert "application/json" in operation["requestBody"]["content"]
        receipt = operation["responses"]["200"]["content"]["application/json"]["schema"]
        assert set(receipt["required"]) == {"accepted", "ignored", "rejected"}


async def test_unexpected_error_is_a_problem_without_details(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr(service.service.exports, "reports", fail)
    # Capture the logs, because structlog would print a traceback with all local variables, which takes ten seconds.
    with capture_logs() as logs:
        answer = await service.admin("/exports/1")

    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["unexpected error"]
    assert answer.status_code == 500
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "secret" not in answer.text


async def test_refused_account_is_shown_and_its_changes_stay_pending(tmp_path: Path) -> None:
    async with running(tmp_path, sailthru_api_secret="wrong") as service:
        for number in range(3):
            await service.webhook(enter(f"p{number}@example.com"))
        export = await newest_export(service, state="running")

        async def is_refused() -> bool:
            return bool((await get(service, "/health/ready"))["accounts"] == {"default": "refused"})

        await until(is_refused)
        metrics = (await service.admin("/metrics")).text

    assert export["counts"]["pending"] == 3
    assert 'lytics_sailthru_account_paused{account="default"} 1.0' in metrics
