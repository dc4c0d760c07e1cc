"""Lists and members of one account, with the sandbox."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest

from app.domain.errors import Permanent, Transient, UnknownList
from app.sailthru.client import Method, SailthruClient
from app.sailthru.lists import Lists
from app.sailthru.protocol import Credentials
from app.sandbox.sailthru import SailthruSandbox

ADA = "ada@example.com"
SPRING = "Lytics Spring Buyers"
LAPSED = "Lytics Lapsed"


@pytest.fixture
def sailthru() -> SailthruSandbox:
    return SailthruSandbox({"test_key": "test_secret"})


@pytest.fixture
async def lists(sailthru: SailthruSandbox) -> AsyncIterator[Lists]:
    credentials = Credentials("test_key", "test_secret", "http://sandbox")
    async with SailthruClient(credentials, transport=lambda: httpx.ASGITransport(sailthru)) as client:
        yield Lists(client)


def calls(sailthru: SailthruSandbox) -> list[tuple[str, str, Any]]:
    state: Any = sailthru.state()
    return [(call["method"], call["endpoint"], call["json"]) for call in state["accounts"]["test_key"]["calls_log"]]


class Scripted:
    """A caller with scripted answers."""

    def __init__(self, *answers: dict[str, object] | Exception) -> None:
        self.answers = list(answers)

    async def call(self, method: Method, endpoint: str, payload: Mapping[str, object]) -> dict[str, object]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_missing_list_is_created_as_secondary_list(lists: Lists, sailthru: SailthruSandbox) -> None:
    made = await lists.find_or_create(SPRING)

    assert made
    assert calls(sailthru) == [
        ("GET", "/list", {"list": SPRING}),
        ("POST", "/list", {"list": SPRING, "primary": 0}),
    ]


async def test_existing_list_is_not_created_again(lists: Lists, sailthru: SailthruSandbox) -> None:
    made = await lists.find_or_create(SPRING)
    found = await lists.find_or_create(SPRING)

    assert found == made
    assert [method for method, *_ in calls(sailthru)] == ["GET", "POST", "GET"]


async def test_answer_without_list_id_is_accepted() -> None:
    lists = Lists(Scripted({"list": SPRING}, {"list": LAPSED, "list_id": 7}))

    assert await lists.find_or_create(SPRING) is None
    assert await lists.find_or_create(LAPSED) is None


async def test_one_call_carries_joins_leaves_and_vars(lists: Lists, sailthru: SailthruSandbox) -> None:
    await lists.update_member(ADA, join=[SPRING], leave=[LAPSED], vars={"first_name": "Ada"})

    assert calls(sailthru) == [
        (
            "POST",
            "/user",
            {"id": ADA, "key": "email", "lists": {LAPSED: 0, SPRING: 1}, "vars": {"first_name": "Ada"}},
        )
    ]
    assert sailthru.members(SPRING) == {ADA}


@pytest.mark.parametrize(
    ("changes", "sent"),
    [
        ({"join": [SPRING]}, {"lists": {SPRING: 1}}),
        ({"leave": [SPRING], "vars": {}}, {"lists": {SPRING: 0}}),
        ({"vars": {"city": "Oslo"}}, {"vars": {"city": "Oslo"}}),
    ],
)
async def test_empty_parts_are_left_out(
    lists: Lists, sailthru: SailthruSandbox, changes: dict[str, Any], sent: dict[str, Any]
) -> None:
    await lists.update_member(ADA, **changes)

    assert calls(sailthru) == [("POST", "/user", {"id": ADA, "key": "email", **sent})]


@pytest.mark.parametrize("changes", [{}, {"join": [], "vars": {}}, {"join": [SPRING], "leave": [SPRING]}])
async def test_update_without_effect_is_refused(
    lists: Lists, sailthru: SailthruSandbox, changes: dict[str, Any]
) -> None:
    """An empty call would create a profile that can receive mail."""
    with pytest.raises(ValueError, match=r"list|nothing"):
        await lists.update_member(ADA, **changes)

    assert calls(sailthru) == []


async def test_lists_of_member_are_read(lists: Lists, sailthru: SailthruSandbox) -> None:
    await lists.update_member(ADA, join=[SPRING, LAPSED])

    assert await lists.lists_of(ADA) == frozenset({SPRING, LAPSED})
    assert calls(sailthru)[-1] == ("GET", "/user", {"id": ADA, "key": "email", "fields": {"lists": 1}})


async def test_member_on_no_list_has_empty_set(lists: Lists) -> None:
    await lists.update_member(ADA, vars={"first_name": "Ada"})

    assert await lists.lists_of(ADA) == frozenset()


async def test_member_without_profile_is_none(lists: Lists) -> None:
    assert await lists.lists_of(ADA) is None


@pytest.mark.parametrize("answer", [{"lists": None}, {"lists": []}, {"lists": {}}, {"keys": {}}])
async def test_every_form_of_no_lists_is_understood(answer: dict[str, object]) -> None:
    client = Scripted(answer)

    assert await Lists(client).lists_of(ADA) == frozenset()


async def test_unknown_form_of_lists_is_an_error() -> None:
    client = Scripted({"lists": "all of them"})

    with pytest.raises(Transient) as caught:
        await Lists(client).lists_of(ADA)
    assert caught.value.code == "unreadable"


async def test_other_refusals_of_read_are_raised() -> None:
    client = Scripted(Permanent(99, "refused"))

    with pytest.raises(Permanent) as caught:
        await Lists(client).lists_of(ADA)
    assert caught.value.code == 99


@pytest.mark.parametrize("answers", [[Permanent(99, "refused")], [UnknownList(15, "none"), Permanent(99, "refused")]])
async def test_refused_list_is_unknown_list(answers: list[Exception]) -> None:
    """The members that wait for the list do not become dead letters. The next call creates the list."""
    client = Scripted(*answers, {"list_id": "abc"})
    lists = Lists(client)

    with pytest.raises(UnknownList) as caught:
        await lists.find_or_create(SPRING)
    assert caught.value.code == 99
    assert await lists.find_or_create(SPRING) == "abc"
