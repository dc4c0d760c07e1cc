"""GET /lytics/audiences and GET /lytics/fields, also while Lytics fails."""

from pathlib import Path
from typing import Any

import pytest

from app.sandbox.faults import AnyFault, Empty, Error, Hang, Html, Reset
from app.sandbox.lytics import webhooks
from app.sandbox.lytics.audiences import SPRING_BUYERS, Audience, Field
from app.sandbox.rules import Rule
from tests.factories import ADA, NOON, SECOND
from tests.service import ADMIN_TOKEN, LYTICS_TOKEN, Running, running
from tests.world import World

PATHS = ("/lytics/audiences", "/lytics/fields")
AUDIENCES = (
    SPRING_BUYERS,
    Audience("f9e8d7c6b5a493827160f5e4d3c2b1a0", "autumn Buyers", "autumn_buyers", size=7),
    Audience("1" * 32, "Deleted", "deleted", is_deleted=True),
    Audience("2" * 32, "Broken", "broken", is_invalid=True),
)


async def test_exportable_audiences_are_listed_by_name(tmp_path: Path) -> None:
    async with running(tmp_path, audiences=AUDIENCES) as service:
        answer = await service.admin("/lytics/audiences")

    assert answer.status_code == 200
    assert answer.json() == {
        "items": [
            {"id": "f9e8d7c6b5a493827160f5e4d3c2b1a0", "slug": "autumn_buyers", "name": "autumn Buyers", "size": 7},
            {"id": SPRING_BUYERS.id, "slug": "spring_buyers", "name": "Spring Buyers", "size": 0},
        ]
    }


async def test_fields_are_listed_by_name_with_internal_ones_last(service: Running) -> None:
    """A field whose type can be exported has a default var."""
    service.lytics.fields = (
        Field("_created", "date"),
        Field("visitct", "int"),
        Field("first-name"),
        Field("email", is_identifier=True),
        Field("home_geo", "geolocation"),
    )
    answer = await service.admin("/lytics/fields")
    items: list[dict[str, Any]] = answer.json()["items"]

    assert answer.status_code == 200
    assert [(item["name"], item["var"]) for item in items] == [
        ("email", "email"),
        ("first-name", "first_name"),
        ("home_geo", None),
        ("visitct", "visitct"),
        ("_created", "_created"),
    ]
    assert items[0] == {
        "name": "email",
        "type": "string",
        "title": "Email",
        "is_identifier": True,
        "is_pii": True,
        "var": "email",
    }


@pytest.mark.parametrize("path", PATHS)
async def test_without_a_lytics_token_the_answer_names_the_setting(tmp_path: Path, path: str) -> None:
    async with running(tmp_path, lytics_api_token=None) as service:
        answer = await service.admin(path)

    assert (answer.status_code, answer.json()["reason"]) == (409, "no_lytics_token")
    assert "LYTICS_API_TOKEN" in answer.json()["detail"]
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", [*PATHS, "/authorizations"])
async def test_without_an_admin_token_lytics_is_not_called(service: Running, path: str) -> None:
    answer = await service.http.get(path, headers={"Authorization": f"Bearer {ADMIN_TOKEN}x"})

    assert answer.status_code == 401
    assert service.lytics.state()["calls"] == {}


@pytest.mark.parametrize("path", PATHS)
async def test_expired_lytics_token_answers_503_with_the_remedy(service: Running, path: str) -> None:
    service.lytics.availability.token_expired = True
    answer = await service.admin(path)

    assert (answer.status_code, answer.json()["reason"]) == (503, "expired_token")
    assert answer.headers["Retry-After"] == "30"
    assert "make a new one" in answer.json()["detail"]
    assert LYTICS_TOKEN not in answer.text


@pytest.mark.parametrize(
    ("fault", "reason", "advice"),
    [
        (Error(status=403, text="quotes ada@example.com"), "forbidden", "roles"),
        (Error(status=400, text="quotes ada@example.com"), "400", "LYTICS_BASE_URL"),
        (Empty(status=404), "404", "LYTICS_BASE_URL"),
        (Error(status=429, text="Too many"), "429", "try again in a minute"),
        (Html(status=503), "503", "try again in a minute"),
        (Html(status=200), "unreadable", "LYTICS_BASE_URL"),
        (Reset(), "unreachable", "firewall"),
        (Hang(), "timeout", "within 15 seconds"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.kind,
)
def test_failure_of_lytics_answers_503_with_the_remedy(
    tmp_path: Path, fault: AnyFault, reason: str, advice: str
) -> None:
    """The service answers after all retries."""
    with World(tmp_path) as world:
        world.lytics.faults.set([Rule(fault)])
        for path in PATHS:
            answer = world.run(world.http.get(path, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}))

            assert (answer.status_code, answer.json()["reason"]) == (503, reason)
            assert answer.headers["Retry-After"] == "30"
            assert "Lytics" in answer.json()["detail"]
            assert advice in answer.json()["detail"]
            assert "ada@" not in answer.text


def test_unanswered_call_to_lytics_does_not_delay_shutdown(tmp_path: Path) -> None:
    """The call in flight asks for the name of a new export. It is not repeated."""
    with World(tmp_path) as world:
        world.lytics.faults.set([Rule(Hang())])
        world.run(world.send(webhooks.enter(ADA, at=NOON)))
        world.run(world.sleep(1))
        drained_at = world.real_clock()
        world.run(world.service.drain())

        assert world.real_clock() - drained_at < 15 * SECOND


def test_short_failure_of_lytics_is_hidden_by_retries(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        world.lytics.faults.set([Rule(Html(status=502), times=2)])
        answer = world.run(world.admin("/lytics/audiences"))

    assert [item["name"] for item in answer["items"]] == ["Spring Buyers"]
