"""Whatever comes, the door answers 200, 400 or 413, and good events go on arriving.

`FUZZ_BODIES=100000 python -m pytest tests/web/test_fuzz.py` for a long run; `FUZZ_SEED` for other bodies, or for the
same again.
"""

import asyncio
import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.lytics.sketch import LONGEST_SKETCH_BYTES
from app.sandbox import webhooks
from app.sandbox.audiences import SPRING_BUYERS
from app.web.webhook.body import LARGEST_BODY_BYTES
from tests.service import Running, running, until
from tests.web.webhook.mutations import Mutator

BODIES = int(os.environ.get("FUZZ_BODIES", "5000"))
SEED = os.environ.get("FUZZ_SEED", "20260411")
BODIES_A_ROUND = 5000
BODIES_AT_ONCE = 50
BODIES_BETWEEN_GOOD_ONES = 500
FIELDS = ("first_name", "city", "emails", "visitct", "hourly", "user_attributes", "segments_all", "no such field")


async def choose_fields(service: Running) -> None:
    """Let spoilt values be stored and told, too."""
    fields = {name: name.replace(" ", "_") for name in FIELDS}
    await service.service.exports.start(SPRING_BUYERS.id, audience_slug="", account="default", fields=fields)
    service.service.exports_changed()


async def send(service: Running, bodies: list[bytes], where: str) -> Counter[int]:
    """Send bodies all at once, so that they share transactions; returns how often each status was answered."""
    answers = await asyncio.gather(*(service.webhook(body) for body in bodies))
    for body, answer in zip(bodies, answers, strict=True):
        assert answer.status_code in {200, 400, 413}, f"{where}: {answer.status_code} for {body[:2000]!r}"
    return Counter(answer.status_code for answer in answers)


async def arrives(service: Running, person: str) -> None:
    """A good event is kept and told."""
    answer = await service.webhook(webhooks.enter(person, at=datetime.now(UTC)))
    assert answer.json() == {"accepted": 1, "ignored": 0, "rejected": 0}
    await until(lambda: person in service.on_list())


async def assert_all_is_well(service: Running) -> None:
    """What operators see can be shown, and adds up."""
    health = (await service.admin("/health/ready")).json()
    metrics = await service.admin("/metrics")
    rejected = (await service.admin("/rejected-events")).json()["items"]
    for export in await service.exports():
        counts = export["counts"]
        ends = ("delivered", "superseded", "pending", "dead", "erased", "cancelled")

        assert counts["accepted"] == sum(counts[end] for end in ends)
    assert (health["status"], health["store"], health["accounts"]) == ("ready", "ok", {"default": "running"})
    assert metrics.status_code == 200
    assert len(rejected) == 100
    assert all(one["body"].isascii() and len(one["body"]) <= LONGEST_SKETCH_BYTES for one in rejected)


@pytest.mark.parametrize("number", range(-(-BODIES // BODIES_A_ROUND)))
async def test_no_body_breaks_the_service(tmp_path: Path, number: int) -> None:
    """No 5xx, which Lytics would send again for ever, and no 422; nothing that the service itself calls an error."""
    seed = f"{SEED}-{number}"
    count = min(BODIES_A_ROUND, BODIES - number * BODIES_A_ROUND)
    bodies = [*Mutator(seed).bodies(count - 1), b"[" * (LARGEST_BODY_BYTES + 1)]
    answered: Counter[int] = Counter()
    with capture_logs() as log:
        async with running(tmp_path) as service:
            await choose_fields(service)
            for start in range(0, count, BODIES_AT_ONCE):
                where = f"FUZZ_SEED={SEED}, round {number}, from body {start}"
                answered += await send(service, bodies[start : start + BODIES_AT_ONCE], where)
                if start % BODIES_BETWEEN_GOOD_ONES == 0:
                    await arrives(service, f"good-{start}@example.com")
            await arrives(service, "last@example.com")
            await assert_all_is_well(service)

    assert [line for line in log if line["log_level"] in {"error", "critical"}] == []
    assert answered[413] == 1
    assert min(answered[200], answered[400]) > count / 10
