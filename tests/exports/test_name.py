"""The export namer: each export gets its name and its list, or a reason with the next step."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from app.domain.audience import Audience
from app.domain.errors import AppError, Conflict, NotFound, Transient
from app.domain.export import Export, ExportState
from app.exports.name import ExportNamer
from app.sailthru.rules import RULES
from tests.factories import ACCOUNT, LIST, NOON, export


class World:
    """A fake of Lytics, one Sailthru account and the stored exports."""

    def __init__(self, *exports: Export) -> None:
        self.exports = {stored.id: stored for stored in exports}
        self.requests: list[str] = []
        self.lytics_error: AppError | None = None
        self.name_error: AppError | None = None
        self.state = ExportState.RUNNING
        self.ensured: list[str] = []
        self.list_error: AppError | None = None
        self.explained: list[str] = []

    async def all(self) -> list[Export]:
        return list(self.exports.values())

    async def audience(self, id_or_slug: str) -> Audience:
        self.requests.append(id_or_slug)
        if self.lytics_error is not None:
            raise self.lytics_error
        return Audience(id_or_slug, "spring_buyers", "Spring Buyers")

    async def ensure(self, name: str) -> None:
        self.ensured.append(name)
        if self.list_error is not None:
            raise self.list_error
        for stored in self.exports.values():
            if stored.list_name == name:
                self.exports[stored.id] = replace(stored, list_ready_at=NOON)

    async def name(self, export_id: int, audience_name: str, list_name: str) -> Export:
        if self.name_error is not None:
            raise self.name_error
        taken = list_name if self.state is ExportState.RUNNING else None
        named = replace(self.exports[export_id], state=self.state, audience_name=audience_name, list_name=taken)
        self.exports[export_id] = named
        return named

    async def set_reason(self, export_id: int, reason: str) -> None:
        self.explained.append(reason)
        self.exports[export_id] = replace(self.exports[export_id], reason=reason)

    async def run(self, *, has_token: bool = True) -> bool:
        # The fake implements only the methods that the namer uses.
        fake: Any = self
        return await ExportNamer(fake, fake if has_token else None, {ACCOUNT: fake}, RULES).run()


def nameless() -> Export:
    return export(state=ExportState.NEEDS_NAME, audience_name=None, list_name=None, list_ready_at=None)


async def test_new_export_gets_its_name_and_its_list_at_once() -> None:
    world = World(nameless())
    is_unfinished = await world.run()

    assert not is_unfinished
    assert (world.requests, world.ensured) == ([nameless().audience_id], [LIST])
    assert world.exports[1].list_ready_at == NOON


async def test_export_with_a_ready_list_causes_no_call() -> None:
    world = World(export())
    is_unfinished = await world.run()

    assert (is_unfinished, world.requests, world.ensured) == (False, [], [])


async def test_without_a_lytics_token_the_reason_names_the_call_that_sets_the_name() -> None:
    world = World(nameless())
    rounds = [await world.run(has_token=False) for _ in range(2)]

    assert rounds == [False, False]
    assert len(world.explained) == 1
    assert "LYTICS_API_TOKEN" in world.explained[0]
    assert 'PATCH /exports/1 {"name": "the audience\'s name"}' in world.explained[0]
    assert world.ensured == []


@pytest.mark.parametrize("error", [Transient("timeout", "Lytics did not answer."), NotFound("No such audience.")])
async def test_failed_request_to_lytics_is_repeated_and_explained(error: AppError) -> None:
    world = World(nameless())
    world.lytics_error = error
    first = await world.run()
    world.lytics_error = None
    second = await world.run()

    assert (first, second) == (True, False)
    assert world.explained[0].startswith(str(error))
    assert "PATCH /exports/1" in world.explained[0]
    assert world.ensured == [LIST]


async def test_name_set_by_an_operator_is_not_overwritten() -> None:
    world = World(nameless())
    world.name_error = Conflict("It has a name.")

    assert await world.run()
    assert world.ensured == []


async def test_taken_name_creates_no_list() -> None:
    world = World(nameless())
    world.state = ExportState.NAME_TAKEN

    assert not await world.run()
    assert world.ensured == []


async def test_failed_list_is_retried_without_another_request_to_lytics() -> None:
    world = World(nameless())
    world.list_error = Transient(503, "Away.")
    first = await world.run()
    world.list_error = None
    second = await world.run()

    assert (first, second) == (True, False)
    assert (len(world.requests), len(world.ensured)) == (1, 2)


@pytest.mark.parametrize("make_error", [lambda: Transient(503, "Away."), lambda: NotFound("No such audience.")])
async def test_failure_of_one_export_does_not_delay_the_others(make_error: Callable[[], AppError]) -> None:
    world = World(nameless(), export(id=2, list_name="Lytics Other", list_ready_at=None))
    world.lytics_error = make_error()

    assert await world.run()
    assert world.ensured == ["Lytics Other"]


async def test_export_of_a_removed_account_waits() -> None:
    world = World(export(account="removed", list_ready_at=None))

    assert not await world.run()
    assert world.ensured == []
