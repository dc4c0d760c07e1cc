"""Health checks and metrics, from start to drain."""

from pathlib import Path

import httpx

from app.main import create_app
from tests.service import ADMIN_TOKEN, Running, running, settings

METRICS_TOKEN = "metrics-token-of-the-tests"


async def test_service_is_alive_but_not_ready_before_the_start(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service.test") as http:
        alive, ready = await http.get("/health/live"), await http.get("/health/ready")
    await app.state.service.close()

    assert (alive.status_code, ready.status_code) == (200, 503)


async def test_draining_service_is_alive_but_not_ready(service: Running) -> None:
    before = await service.http.get("/health/ready")
    await service.service.drain()
    after = await service.http.get("/health/ready")
    alive = await service.http.get("/health/live")

    assert alive.json() == {"status": "alive"}
    assert (before.status_code, before.json()["status"]) == (200, "ready")
    assert before.json()["store"] == "ok"
    assert before.json()["accounts"] == {"default": "running"}
    assert (after.status_code, after.json()["status"]) == (503, "not ready")
    assert alive.status_code == 200


async def test_metrics_token_is_accepted_for_metrics_only(tmp_path: Path) -> None:
    """If METRICS_TOKENS is set, admin tokens are not accepted for metrics."""
    async with running(tmp_path, metrics_tokens=METRICS_TOKEN) as service:
        statuses = {
            token: (await service.http.get("/metrics", headers={"Authorization": f"Bearer {token}"})).status_code
            for token in (METRICS_TOKEN, ADMIN_TOKEN)
        }
        exports = await service.http.get("/exports", headers={"Authorization": f"Bearer {METRICS_TOKEN}"})

    assert statuses == {METRICS_TOKEN: 200, ADMIN_TOKEN: 401}
    assert exports.status_code == 401


async def test_metrics_contain_no_secret(service: Running) -> None:
    answer = await service.admin("/metrics")

    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'lytics_sailthru_account_paused{account="default"} 0.0' in answer.text
    assert "-of-the-tests" not in answer.text
