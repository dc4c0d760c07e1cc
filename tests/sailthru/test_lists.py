"""What the service wants of Sailthru, against the sandbox."""

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
    """Answers calls from a script."""

    def __init__(self, *answers: dict[str, object] | Exception) -> None:
        self.answers = list(answers)

    async def call(self, method: Method, endpoint: str, payload: Mapping[str, object]) -> dict[str, object]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_a_missing_list_is_made_as_a_secondary_one(lists: Lists, sailthru: SailthruSandbox) -> None:
    made = await lists.find_or_make(SPRING)

    assert made
    assert calls(sailthru) == [
        ("GET", "/list", {"list": SPRING}),
        ("POST", "/list", {"list": SPRING, "primary": 0}),
    ]


async def test_a_list_that_exists_is_only_found(lists: Lists, sailthru: SailthruSandbox) -> None:
    made = await lists.find_or_make(SPRING)
    found = await lists.find_or_make(SPRING)

    assert found == made
    assert [method for method, *_ in calls(sailthru)] == ["GET", "POST", "GET"]


async def test_an_answer_without_an_id_is_enough() -> None:
    lists = Lists(Scripted({"list": SPRING}, {"list": LAPSED, "list_id": 7}))

    assert await lists.find_or_make(SPRING) is None
    assert await lists.find_or_make(LAPSED) is None


async def test_one_call_tells_joins_leaves_and_vars(lists: Lists, sailthru: SailthruSandbox) -> None:
    await lists.tell(ADA, join=[SPRING], leave=[LAPSED], vars={"first_name": "Ada"})

    assert calls(sailthru) == [
        (
            "POST",
            "/user",
            {"id": ADA, "key": "email", "lists": {LAPSED: 0, SPRING: 1}, "vars": {"first_name": "Ada"}},
        )
    ]
    assert sailthru.members(SPRING) == {ADA}


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        ({"join": [SPRING]}, {"lists": {SPRING: 1}}),
        ({"leave": [SPRING], "vars": {}}, {"lists": {SPRING: 0}}),
        ({"vars": {"city": "Oslo"}}, {"vars": {"city": "Oslo"}}),
    ],
)
async def test_what_is_empty_is_left_out(
    lists: Lists, sailthru: SailthruSandbox, words: dict[str, Any], sent: dict[str, Any]
) -> None:
    await lists.tell(ADA, **words)

    assert calls(sailthru) == [("POST", "/user", {"id": ADA, "key": "email", **sent})]


@pytest.mark.parametrize("words", [{}, {"join": [], "vars": {}}, {"join": [SPRING], "leave": [SPRING]}])
async def test_a_call_without_sense_is_not_made(lists: Lists, sailthru: SailthruSandbox, words: dict[str, Any]) -> None:
    """A bare call would make a profile that can be mailed."""
    with pytest.raises(ValueError, match=r"list|nothing"):
        await lists.tell(ADA, **words)

    assert calls(sailthru) == []


async def test_the_lists_of_a_person_are_read(lists: Lists, sailthru: SailthruSandbox) -> None:
    await lists.tell(ADA, join=[SPRING, LAPSED])

    assert await lists.lists_of(ADA) == frozenset({SPRING, LAPSED})
    assert calls(sailthru)[-1] == ("GET", "/user", {"id": ADA, "key": "email", "fields": {"lists": 1}})


async def test_a_person_on_no_list_is_known_all_the_same(lists: Lists) -> None:
    await lists.tell(ADA, vars={"first_name": "Ada"})

    assert await lists.lists_of(ADA) == frozenset()


async def test_a_person_without_a_profile_is_none(lists: Lists) -> None:
    assert await lists.lists_of(ADA) is None


@pytest.mark.parametrize("answer", [{"lists": None}, {"lists": []}, {"lists": {}}, {"keys": {}}])
async def test_every_way_to_say_no_list_is_understood(answer: dict[str, object]) -> None:
    client = Scripted(answer)

    assert await Lists(client).lists_of(ADA) == frozenset()


async def test_lists_in_an_unknown_form_are_not_taken_for_none() -> None:
    client = Scripted({"lists": "all of them"})

    with pytest.raises(Transient) as caught:
        await Lists(client).lists_of(ADA)
    assert caught.value.code == "unreadable"


async def test_other_refusals_of_a_read_are_raised() -> None:
    client = Scripted(Permanent(99, "refused"))

    with pytest.raises(Permanent) as caught:
        await Lists(client).lists_of(ADA)
    assert caught.value.code == 99


@pytest.mark.parametrize("answers", [[Permanent(99, "refused")], [UnknownList(15, "none"), Permanent(99, "refused")]])
async def test_a_list_that_is_refused_is_nobodys_fault(answers: list[Exception]) -> None:
    """Whoever waits for the list is not given up: it is made once somebody has seen to it."""
    client = Scripted(*answers, {"list_id": "abc"})
    lists = Lists(client)

    with pytest.raises(UnknownList) as caught:
        await lists.find_or_make(SPRING)
    assert caught.value.code == 99
    assert await lists.find_or_make(SPRING) == "abc"
