"""The explanations of rejected webhooks."""

import pytest

from app.domain.rejection import Reason
from app.explain.codes import explain
from app.explain.rejections import EXPLANATIONS, advice


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_an_explanation(reason: Reason) -> None:
    explanation = EXPLANATIONS[reason]

    assert explanation == explain(reason)
    assert explanation.happened.endswith(".")
    assert explanation.next_step.endswith(".")
    assert explanation.to_whom


@pytest.mark.parametrize(
    ("reason", "field"),
    [
        (Reason.NO_TOKEN, "Webhook Request Headers"),
        (Reason.NOT_JSON, "Lytics Template"),
        (Reason.UNKNOWN_SHAPE, "Audience Triggers Webhook"),
        (Reason.NO_SEGMENT_EVENTS, "Export Fields"),
        (Reason.UNREADABLE_TIME, "Lytics Template"),
        (Reason.NO_USABLE_ADDRESS, "Export Fields"),
        (Reason.TOO_LARGE, "Batch Size"),
    ],
)
def test_next_step_names_the_field_in_lytics(reason: Reason, field: str) -> None:
    assert field in explain(reason).next_step


def test_advice_has_the_exact_problem_if_it_is_known() -> None:
    explanation = EXPLANATIONS[Reason.NOT_JSON]

    assert advice(Reason.NOT_JSON) == f"{explanation.happened} {explanation.next_step}"
    assert advice(Reason.NOT_JSON, "Byte 7 is odd.") == f"Byte 7 is odd. {explanation.next_step}"
