"""The vars that an export reads from a profile, and its states."""

from app.domain.export import ExportState
from tests.factories import export


def test_only_chosen_fields_become_vars() -> None:
    profile = {"first_name": "Ada", "city": "London", "phone": "1"}

    assert export(fields={"first_name": "name", "city": "city"}).vars_of(profile) == {"name": "Ada", "city": "London"}


def test_null_and_absent_fields_are_left_out() -> None:
    fields = {"first_name": "first_name", "city": "city", "age": "age"}

    assert export(fields=fields).vars_of({"first_name": None, "age": 0}) == {"age": 0}


def test_false_zero_and_empty_are_values() -> None:
    profile = {"a": False, "b": 0, "c": "", "d": []}

    assert export(fields={name: name for name in "abcd"}).vars_of(profile) == profile


def test_states_keep_their_public_names() -> None:
    assert {str(state) for state in ExportState} == {
        "needs_name",
        "name_taken",
        "running",
        "paused",
        "stopped",
        "list_changed",
    }
