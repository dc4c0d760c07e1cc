"""The whole OpenAPI, tried out by schemathesis on the running service: no call ends in a way that is not declared."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.sandbox import webhooks
from tests.promises.processes import ADMIN_TOKEN, WEBHOOK_TOKEN, running

EXAMPLES = os.environ.get("SCHEMA_EXAMPLES", "8")
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


# Takes as long as there are calls and examples; other tests run beside it.
@pytest.mark.timeout(40 * int(EXAMPLES))
def test_every_call_ends_as_it_is_declared(tmp_path: Path) -> None:
    """Whatever is sent: no server error, no status and no body that the description does not know."""
    with running(tmp_path, ERASURE_KEY="a-key-that-is-kept-elsewhere") as (service, _):
        service.send_all([webhooks.enter("ada@example.com", at=datetime.now(UTC))])
        service.wait_until_told()
        paths = service.http.get("/openapi.json").raise_for_status().json()["paths"]
        (tmp_path / "schemathesis.toml").write_text('[parameters]\n"path.export_id" = 1\n')
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{service.port}/openapi.json"),
                *("--header", f"Authorization: Bearer {ADMIN_TOKEN}", "--header", f"X-API-Key: {WEBHOOK_TOKEN}"),
                *("--checks", CHECKS, "--max-examples", EXAMPLES, "--seed", "20261125"),
                *("--generation-database", "none", "--no-color"),
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )

        assert done.returncode == 0, done.stdout + done.stderr
        # All but the description itself.
        assert f"Tested: {sum(map(len, paths.values())) - 1}" in done.stdout
        assert service.process.is_running
