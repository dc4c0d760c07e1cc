"""The explanations of failed connections."""

import pytest

from app.domain.unreachable import Unreachable
from app.explain.connection import explain_unreachable

HOST, SETTING = "api.example.com:8443", "SAILTHRU_BASE_URL"


@pytest.mark.parametrize("why", Unreachable)
def test_each_reason_has_its_own_text(why: Unreachable) -> None:
    """The problem names the host, and the next step names its setting."""
    happened, next_step = explain_unreachable(why, HOST, SETTING)

    assert HOST in happened
    assert SETTING in next_step
    assert happened.endswith(".")
    assert next_step.endswith(".")
    assert len({explain_unreachable(reason, HOST, SETTING) for reason in Unreachable}) == len(Unreachable)
