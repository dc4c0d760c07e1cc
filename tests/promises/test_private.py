"""private: no personal data and no secrets in logs, metrics or error bodies; only the owner can read files."""

import stat
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from app.sandbox.lytics import webhooks
from tests.promises.kinds import sqlite_in_small_runs
from tests.promises.processes import ADMIN_TOKEN, API_KEY, API_SECRET, LYTICS_TOKEN, WEBHOOK_TOKEN, running, until

kind = sqlite_in_small_runs()

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
FIELD_VALUE = "Zyzzyva-of-Sampleton"


def test_logs_metrics_and_errors_contain_nothing_private(tmp_path: Path, kind: str) -> None:
    """At log level DEBUG, members join and leave, calls fail, and webhooks are invalid."""
    people = ["ada@example.com", "stays@example.com"]
    with running(tmp_path, LOG_LEVEL="DEBUG") as (service, sandbox):
        fields = {"last_name": FIELD_VALUE}
        service.send_all([webhooks.enter(address, at=NOON, fields=fields) for address in people])
        until(sandbox.members, lambda members: members == set(people))
        service.send_all(
            [webhooks.exit_("ada@example.com", at=datetime.now(UTC)), webhooks.exit_("gone@example.com", at=NOON)]
        )
        service.wait_until_delivered()
        sandbox.control("hold", after="before", then="drop", methods=["POST"], endpoints=["/user"])
        service.send_all([webhooks.enter("lost@example.com", at=NOON)])
        # The call ends with the service's timeout, and its outcome is unknown.
        until(
            lambda: service.http.get("/members/lost@example.com").json()["memberships"],
            lambda found: found and found[0]["state"] == "retrying",
        )
        sandbox.control("release")
        until(sandbox.members, lambda members: members == {"lost@example.com", "stays@example.com"})
        refused = [
            service.http.post("/webhooks/lytics", json={}, headers={"Authorization": "not-the-right-token"}),
            service.http.post("/webhooks/lytics?token=wrong-in-the-url", json={}, headers={"Authorization": ""}),
            service.send({"data": {"email": "ada@example.com", "last_name": FIELD_VALUE}}),
            service.send({"data": {"email": "ada@example.com", "segment_events": [{"id": "x", "event": FIELD_VALUE}]}}),
            service.http.get("/members/ada@example.com", headers={"Authorization": "Bearer wrong"}),
            service.http.get("/exports/ada@example.com"),
            service.http.patch("/exports/1", json={"name": FIELD_VALUE}),
            service.http.get("/nowhere/ada@example.com?token=wrong-in-the-url"),
        ]
        metrics = service.http.get("/metrics").text
        signatures = {call["json"].get("sig") for call in sandbox.account(with_log=True)["calls_log"]} - {None}
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in service.files()}
        service.process.stop()
        stored = service.stored()
        log = service.log.read_text()
    public = "\n".join([log, metrics, *(answer.text for answer in refused)])
    people += ["gone@example.com", "lost@example.com"]
    secrets = [WEBHOOK_TOKEN, ADMIN_TOKEN, API_KEY, API_SECRET, LYTICS_TOKEN, "not-the-right-token", "wrong-in-the-url"]

    assert all(400 <= answer.status_code < 500 for answer in refused)
    assert "webhook refused" in log
    for private in [*people, *map(quote, people), FIELD_VALUE, "sig=", *secrets, *signatures]:
        assert private not in public, private
    assert set(modes.values()) == ({0o600} if kind == "sqlite" else set())
    # A field that no export has chosen is never stored.
    assert b"stays@example.com" in stored
    assert FIELD_VALUE.encode() not in stored
