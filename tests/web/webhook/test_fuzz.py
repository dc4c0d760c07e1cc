"""Broken bodies: the endpoint answers each with 200, 400 or 413, and valid events are still delivered.

Set `FUZZ_SEED` to use other bodies or to repeat a run.
"""

import asyncio
import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.lytics.sketch import LONGEST_SKETCH_BYTES
from app.sandbox.lytics import webhooks
from app.sandbox.lytics.audiences import SPRING_BUYERS
from app.web.webhook.body import MAX_BODY_BYTES
from tests.service import Running, running, until
from tests.sizes import size
from tests.web.webhook.mutations import Mutator

BODIES = size(small=800, full=5000, soak=100_000)
SEED = os.environ.get("FUZZ_SEED", "20260411")
BODIES_PER_ROUND = 5000
BODIES_AT_ONCE = 50
BODIES_BETWEEN_GOOD_ONES = 500
FIELDS = ("first_name", "city", "emails", "visitct", "hourly", "user_attributes", "segments_all", "no such field")


async def choose_fields(service: Running) -> None:
    """Start an export with fields, so that broken values are stored and delivered too."""
    fields = {name: name.replace(" ", "_") for name in FIELDS}
    await service.service.exports.start(SPRING_BUYERS.id, audience_slug="", account="default", fields=fields)
    service.service.exports_changed()


async def send(service: Running, bodies: list[bytes], where: str) -> Counter[int]:
    """Send bodies at the same time, so that they share transactions. Return the number of answers by status."""
    answers = await asyncio.gather(*(service.webhook(body) for body in bodies))
    for body, answer in zip(bodies, answers, strict=True):
        assert answer.status_code in {200, 400, 413}, f"{where}: {answer.status_code} for {body[:2000]!r}"
    return Counter(answer.status_code for answer in answers)


async def assert_delivered(service: Running, address: str) -> None:
    answer = await service.webhook(webhooks.enter(address, at=datetime.now(UTC)))
    assert answer.json() == {"accepted": 1, "ignored": 0, "rejected": 0}
    await until(lambda: address in service.on_list())


async def assert_healthy(service: Running) -> None:
    """Assert that the operators' endpoints work and that the counts add up."""
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
    assert all(event["body"].isascii() and len(event["body"]) <= LONGEST_SKETCH_BYTES for event in rejected)


@pytest.mark.parametrize("number", range(-(-BODIES // BODIES_PER_ROUND)))
async def test_no_body_breaks_the_service(tmp_path: Path, number: int) -> None:
    """No answer is 422 or 5xx, which Lytics would retry, and the service logs no error."""
    seed = f"{SEED}-{number}"
    count = min(BODIES_PER_ROUND, BODIES - number * BODIES_PER_ROUND)
    bodies = [*Mutator(seed).bodies(count - 1), b"[" * (MAX_BODY_BYTES + 1)]
    answered: Counter[int] = Counter()
    with capture_logs() as log:
        async with running(tmp_path) as service:
            await choose_fields(service)
            for start in range(0, count, BODIES_AT_ONCE):
                where = f"FUZZ_SEED={SEED}, round {number}, from body {start}"
                answered += await send(service, bodies[start : start + BODIES_AT_ONCE], where)
                if start % BODIES_BETWEEN_GOOD_ONES == 0:
                    await assert_delivered(service, f"good-{start}@example.com")
            await assert_delivered(service, "last@example.com")
            await assert_healthy(service)

    assert [line for line in log if line["log_level"] in {"error", "critical"}] == []
    assert answered[413] == 1
    assert min(answered[200], answered[400]) > count / 10
