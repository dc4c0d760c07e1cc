"""GET /members/{email}: the memberships and the timeline of a member."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from app.sandbox.lytics import webhooks
from app.sandbox.lytics.audiences import SPRING_BUYERS
from tests.service import LIST, Running, running, until

ADA = "ada@example.com"
AN_HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)


async def member(service: Running, address: str = ADA) -> dict[str, Any]:
    answer = await service.admin(f"/members/{address}")
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json()
    return body


async def test_delivered_member_has_memberships_and_timeline(service: Running) -> None:
    """The spelling of the address makes no difference."""

    async def is_settled() -> bool:
        memberships = (await member(service))["memberships"]
        return bool(memberships) and memberships[0]["state"] == "settled"

    await service.webhook(webhooks.enter("Ada@Example.com", at=AN_HOUR_AGO))
    await until(is_settled)
    found = await member(service, " ADA@example.COM")

    (membership,) = found["memberships"]
    assert found["email"] == ADA
    assert (membership["list"], membership["desired"], membership["confirmed"]) == (LIST, "in", "in")
    assert (membership["code"], membership["next_call_at"]) == (None, None)
    assert [line["what"] for line in found["timeline"]] == ["received", "called", "answered"]


@pytest.mark.parametrize(
    "address", ["ada/orders@example.com", "/@example.com", "a//b@example.com", "a/./b@example.com"]
)
async def test_address_may_have_slashes(service: Running, address: str) -> None:
    """RFC 5322, section 3.2.3, allows them before the @."""
    await service.webhook(webhooks.enter(address, at=AN_HOUR_AGO))
    found = await member(service, quote(address, safe=""))

    assert found["email"] == address
    assert [membership["desired"] for membership in found["memberships"]] == ["in"]


@pytest.mark.parametrize("text", ["a\nb", "\n", "/", "a/", "%2F"])
async def test_invalid_address_is_shown_as_unknown(service: Running, text: str) -> None:
    found = await member(service, quote(text, safe=""))

    assert (found["memberships"], found["timeline"]) == ([], [])


async def test_member_is_held_until_its_export_is_named(tmp_path: Path) -> None:
    """The export's reason says how to name it."""
    async with running(tmp_path, lytics_api_token=None) as service:
        await service.webhook(webhooks.enter(ADA, at=AN_HOUR_AGO))

        async def is_explained() -> bool:
            return "by hand" in (await service.exports())[0]["reason"]

        await until(is_explained)
        (held,) = await service.exports()
        (waiting,) = (await member(service))["memberships"]
        unnamed = await service.admin("/exports/1", method="PATCH", json={"name": " "})
        named = await service.admin("/exports/1", method="PATCH", json={"name": " Spring Buyers "})
        await until(lambda: service.on_list() == {ADA})
        again = await service.admin("/exports/1", method="PATCH", json={"name": "Other"})

    assert (held["state"], held["list"], held["counts"]["pending"]) == ("needs_name", None, 1)
    assert held["audience"] == {"id": SPRING_BUYERS.id, "slug": SPRING_BUYERS.slug, "name": None}
    assert "PATCH /exports/1" in held["reason"]
    assert "LYTICS_API_TOKEN" in held["reason"]
    assert (waiting["state"], waiting["list"], waiting["confirmed"]) == ("held", None, "never")
    assert unnamed.status_code == 422
    assert (named.status_code, named.json()["list"], named.json()["state"]) == (200, LIST, "running")
    assert again.status_code == 409
