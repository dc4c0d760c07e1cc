"""Calls that schemathesis generates from the OpenAPI description. The description must declare each answer."""

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.sandbox.lytics import webhooks
from tests.promises.processes import ADMIN_TOKEN, WEBHOOK_TOKEN, running
from tests.sizes import size

EXAMPLES = size(small=2, full=8, soak=200)
# The coverage phase sends some hundred fixed calls in addition to the examples.
PHASES = size(small="fuzzing,stateful", full="examples,coverage,fuzzing,stateful")
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.mark.timeout(size(small=120, full=400, soak=8000))
def test_every_call_answers_as_declared(tmp_path: Path) -> None:
    with running(tmp_path, ERASURE_KEY="a-key-that-is-kept-elsewhere") as (service, _):
        service.send_all([webhooks.enter("ada@example.com", at=datetime.now(UTC))])
        service.wait_until_delivered()
        paths = service.http.get("/openapi.json").raise_for_status().json()["paths"]
        (tmp_path / "schemathesis.toml").write_text('[parameters]\n"path.export_id" = 1\n')
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{service.port}/openapi.json"),
                *("--header", f"Authorization: Bearer {ADMIN_TOKEN}", "--header", f"X-API-Key: {WEBHOOK_TOKEN}"),
                *("--checks", CHECKS, "--max-examples", str(EXAMPLES), "--phases", PHASES, "--seed", "20261125"),
                *("--generation-database", "none", "--no-color"),
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )

        assert done.returncode == 0, done.stdout + done.stderr
        # Schemathesis tests every operation except the description itself.
        tested = re.search(r"Tested: (\d+)", done.stdout)
        assert tested is not None, done.stdout
        assert int(tested[1]) == sum(map(len, paths.values())) - 1, done.stdout
        assert service.process.is_running
