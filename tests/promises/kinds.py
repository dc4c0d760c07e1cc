"""Which databases a promise is tested on."""

from typing import Any

import pytest

from tests.sizes import size


def sqlite_in_small_runs() -> Any:
    """Return the fixture `kind` for a module whose promises do not depend on the database.

    A small run tests these promises on SQLite only, because a database that is reached over a connection costs several
    times as much.
    """

    @pytest.fixture(name="kind", params=size(["sqlite"], ["sqlite", "postgresql"]))
    def kind(request: pytest.FixtureRequest) -> str:
        found: str = request.param
        return found

    return kind
