"""Each fault alone, at log level DEBUG: no change is lost, no member joins twice, and no output is private.

`test_full_disk.py` tests a full disk and a locked database.
"""

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from app.logs import configure_logs
from tests.promises.faults import ADA, ADA_ID, ADA_NEW, BOB, BOB_ID, FIRST_NAME, STORIES, Story
from tests.service import ADMIN_TOKEN, API_KEY, API_SECRET, LIST, LYTICS_TOKEN, WEBHOOK_TOKEN
from tests.sizes import size
from tests.world import World

# A small run tests each fault on SQLite, and every fourth one on PostgreSQL.
ON_EACH = [("sqlite", name) for name in STORIES] + [("postgresql", name) for name in list(STORIES)[:: size(4, 1)]]
PRIVATE = {
    "address": ADA,
    "new address": ADA_NEW,
    "other address": BOB,
    "local part": ADA.partition("@")[0],
    "field value": FIRST_NAME,
    "webhook token": WEBHOOK_TOKEN,
    "admin token": ADMIN_TOKEN,
    "key": API_KEY,
    "secret": API_SECRET,
    "Lytics token": LYTICS_TOKEN,
    "crowd": "crowd",
    "Lytics id": ADA_ID,
    "other Lytics id": BOB_ID,
}


@pytest.fixture
def logs() -> Iterator[io.StringIO]:
    """Capture the service's logs at log level DEBUG."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    configure_logs("DEBUG")
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    written = io.StringIO()
    handler.setStream(written)
    yield written
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("kind", "story"), [pytest.param(kind, STORIES[name], id=f"{kind}-{name}") for kind, name in ON_EACH]
)
def test_service_survives_fault(tmp_path: Path, story: Story, logs: io.StringIO) -> None:
    """The list is exact, calls for one member never overlap, and logs, metrics and errors hold nothing private."""
    confirmed: list[dict[str, Any]] = []
    with World(tmp_path, confirmed=confirmed, is_quiet=False) as world:
        world.run(start(world))
        expected = world.run(story(world))
        world.run(world.work_until_delivered())
        metrics = world.run(world.metrics())
        account = world.account()

        assert world.sailthru.members(LIST) == expected
        assert account["most_at_once_per_person"] <= 1
        assert account["over_limit"] == {}
        assert not any({"optout_email", "optout_templates"} & call.keys() for call in confirmed)
        private = {**PRIVATE, **{f"signature {n}": sig for n, sig in enumerate(world.signatures)}}
        output = {"logs": logs.getvalue(), "metrics": metrics, "errors": "\n".join(world.errors)}
    assert '"level": "info"' in output["logs"]
    for where, text in output.items():
        assert [name for name, value in private.items() if value in text] == [], where


async def start(world: World) -> None:
    """Start an export with one field."""
    await world.export({"first_name": "first_name"})
