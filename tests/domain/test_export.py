"""What an export takes from a profile, and the states it can be in."""

from app.domain.export import ExportState
from tests.factories import export


def test_only_the_chosen_fields_become_vars_under_their_own_names() -> None:
    """A field that nobody chose never goes further than this."""
    profile = {"first_name": "Ada", "city": "London", "phone": "1"}

    assert export(fields={"first_name": "name", "city": "city"}).vars_of(profile) == {"name": "Ada", "city": "London"}


def test_null_and_absent_fields_are_left_out() -> None:
    """A null would wipe a var in Sailthru that another tool has filled."""
    fields = {"first_name": "first_name", "city": "city", "age": "age"}

    assert export(fields=fields).vars_of({"first_name": None, "age": 0}) == {"age": 0}


def test_false_zero_and_empty_are_values() -> None:
    """Only null says nothing."""
    profile = {"a": False, "b": 0, "c": "", "d": []}

    assert export(fields={name: name for name in "abcd"}).vars_of(profile) == profile


def test_the_states_are_those_that_people_script_against() -> None:
    """Their spelling is kept."""
    assert {str(state) for state in ExportState} == {
        "needs_name",
        "name_taken",
        "running",
        "paused",
        "stopped",
        "list_changed",
    }
