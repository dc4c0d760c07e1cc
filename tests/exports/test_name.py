"""Naming: each export is brought as far as it can be brought, and a person is told where it can't."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from app.domain.audience import Audience, list_name
from app.domain.errors import AppError, Conflict, NotFound, Transient
from app.domain.export import Export, ExportState
from app.exports.name import ExportNamer
from tests.factories import ACCOUNT, LIST, NOON, export


class World:
    """Lytics, one Sailthru account and the exports."""

    def __init__(self, *exports: Export) -> None:
        self.exports = {one.id: one for one in exports}
        self.asked: list[str] = []
        self.lytics_error: AppError | None = None
        self.name_error: AppError | None = None
        self.state = ExportState.RUNNING
        self.ensured: list[str] = []
        self.list_error: AppError | None = None
        self.explained: list[str] = []

    async def all(self) -> list[Export]:
        return list(self.exports.values())

    async def audience(self, id_or_slug: str) -> Audience:
        self.asked.append(id_or_slug)
        if self.lytics_error is not None:
            raise self.lytics_error
        return Audience(id_or_slug, "spring_buyers", "Spring Buyers")

    async def ensure(self, name: str) -> None:
        self.ensured.append(name)
        if self.list_error is not None:
            raise self.list_error
        for one in self.exports.values():
            if one.list_name == name:
                self.exports[one.id] = replace(one, list_ready_at=NOON)

    async def name(self, export_id: int, audience_name: str) -> Export:
        if self.name_error is not None:
            raise self.name_error
        name = list_name(audience_name) if self.state is ExportState.RUNNING else None
        named = replace(self.exports[export_id], state=self.state, audience_name=audience_name, list_name=name)
        self.exports[export_id] = named
        return named

    async def explain(self, export_id: int, reason: str) -> None:
        self.explained.append(reason)
        self.exports[export_id] = replace(self.exports[export_id], reason=reason)

    async def run(self, *, asks_lytics: bool = True) -> bool:
        return await ExportNamer(self, self if asks_lytics else None, {ACCOUNT: self}).run()


def nameless() -> Export:
    return export(state=ExportState.NEEDS_NAME, audience_name=None, list_name=None, list_ready_at=None)


async def test_a_new_export_gets_its_name_and_its_list_at_once() -> None:
    """A flow can only be built on a list that exists."""
    world = World(nameless())
    is_unfinished = await world.run()

    assert not is_unfinished
    assert (world.asked, world.ensured) == ([nameless().audience_id], [LIST])
    assert world.exports[1].list_ready_at == NOON


async def test_what_is_done_is_not_done_again() -> None:
    """Neither Lytics nor Sailthru is asked for an export that runs on a list that is ready."""
    world = World(export())
    is_unfinished = await world.run()

    assert (is_unfinished, world.asked, world.ensured) == (False, [], [])


async def test_without_a_token_a_person_gives_the_name() -> None:
    """Told once, with the call to make; nothing to repeat."""
    world = World(nameless())
    rounds = [await world.run(asks_lytics=False) for _ in range(2)]

    assert rounds == [False, False]
    assert len(world.explained) == 1
    assert "LYTICS_API_TOKEN" in world.explained[0]
    assert 'PATCH /exports/1 {"name": "the audience\'s name"}' in world.explained[0]
    assert world.ensured == []


@pytest.mark.parametrize("error", [Transient("timeout", "Lytics did not answer."), NotFound("No such audience.")])
async def test_lytics_that_does_not_tell_is_asked_again(error: AppError) -> None:
    """A name is never guessed; meanwhile it says why, and that a person may give it."""
    world = World(nameless())
    world.lytics_error = error
    first = await world.run()
    world.lytics_error = None
    second = await world.run()

    assert (first, second) == (True, False)
    assert world.explained[0].startswith(str(error))
    assert "PATCH /exports/1" in world.explained[0]
    assert world.ensured == [LIST]


async def test_a_person_was_faster() -> None:
    """The next round sees the name that was given by hand."""
    world = World(nameless())
    world.name_error = Conflict("It has a name.")

    assert await world.run()
    assert world.ensured == []


async def test_a_taken_name_makes_no_list() -> None:
    """Two audiences never share a list."""
    world = World(nameless())
    world.state = ExportState.NAME_TAKEN

    assert not await world.run()
    assert world.ensured == []


async def test_a_list_that_could_not_be_made_is_tried_again() -> None:
    """Without asking Lytics for the name again."""
    world = World(nameless())
    world.list_error = Transient(503, "Away.")
    first = await world.run()
    world.list_error = None
    second = await world.run()

    assert (first, second) == (True, False)
    assert (len(world.asked), len(world.ensured)) == (1, 2)


@pytest.mark.parametrize("trouble", [lambda: Transient(503, "Away."), lambda: NotFound("No such audience.")])
async def test_one_export_does_not_keep_others_waiting(trouble: Callable[[], AppError]) -> None:
    """What can be done is done, whatever stands before it."""
    world = World(nameless(), export(id=2, list_name="Lytics Other", list_ready_at=None))
    world.lytics_error = trouble()

    assert await world.run()
    assert world.ensured == ["Lytics Other"]


async def test_an_account_that_is_not_set_any_more() -> None:
    """Nothing can be done before a restart with other settings."""
    world = World(export(account="gone", list_ready_at=None))

    assert not await world.run()
    assert world.ensured == []
