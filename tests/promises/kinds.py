"""Selects the databases for the tests of a promise."""

from typing import Any

import pytest

from tests.sizes import size


def sqlite_in_small_runs() -> Any:
    """Return a fixture `kind` for a module with promises that do not depend on the database.

    A small run tests these promises on SQLite only, because tests on PostgreSQL take several times as long.
    """

    @pytest.fixture(name="kind", params=size(["sqlite"], ["sqlite", "postgresql"]))
    def kind(request: pytest.FixtureRequest) -> str:
        found: str = request.param
        return found

    return kind
