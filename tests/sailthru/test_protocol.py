"""Signatures, rate-limit headers, and every kind of answer, in tables."""

import json
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import CallFailed, CredentialsRefused, LimitReached, Permanent, Transient, UnknownList
from app.sailthru.answers import USER_NOT_FOUND, read_answer
from app.sailthru.protocol import (
    Credentials,
    RateLimit,
    encode,
    read_rate_limit,
    signature,
)

FIXTURES = Path(__file__).parents[1] / "fixtures" / "sailthru"
VECTORS: list[dict[str, Any]] = json.loads((FIXTURES / "signature_vectors.json").read_text(encoding="utf-8"))["vectors"]
CREDENTIALS = Credentials("test_key", "s3cr3t")
ADDRESS = "ada@example.com"
WORDS = st.text(alphabet="aZ09{é☕🎉", max_size=5)


def answer(error: object, text: str = "some text") -> bytes:
    return json.dumps({"error": error, "errormsg": text}).encode()


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_signature_equals_that_of_official_clients(vector: dict[str, Any]) -> None:
    assert signature(vector["secret"], vector["params"]) == vector["sig"]


@given(st.dictionaries(WORDS, WORDS).flatmap(lambda params: st.tuples(st.just(params), st.permutations(list(params)))))
def test_signature_ignores_order_of_parameters(example: tuple[dict[str, str], list[str]]) -> None:
    params, order = example

    assert signature("secret", {name: params[name] for name in order}) == signature("secret", params)


@pytest.mark.parametrize(
    "vector",
    [vector for vector in VECTORS if vector["name"] in {"user_unicode_raw", "user_emoji_raw", "user_full_compact"}],
    ids=lambda vector: vector["name"],
)
def test_call_is_signed_over_the_exact_json_text(vector: dict[str, Any]) -> None:
    credentials = Credentials(vector["params"]["api_key"], vector["secret"])

    fields = encode(credentials, json.loads(vector["params"]["json"]))

    assert fields == {**vector["params"], "sig": vector["sig"]}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "half a pair: \ud83d"])
def test_value_without_json_form_is_refused_and_not_quoted(value: object) -> None:
    with pytest.raises(ValueError, match="cannot represent") as caught:
        encode(CREDENTIALS, {"id": ADDRESS, "vars": {"score": value}})

    assert ADDRESS not in "".join(traceback.format_exception(caught.value))


def test_credentials_keep_key_and_secret_out_of_their_repr() -> None:
    assert repr(CREDENTIALS) == "Credentials(base_url='https://api.sailthru.com')"


def headers(limit: str, remaining: str, reset: str) -> dict[str, str]:
    return {"X-Rate-Limit-Limit": limit, "X-Rate-Limit-Remaining": remaining, "X-Rate-Limit-Reset": reset}


def test_rate_limit_is_read_from_headers() -> None:
    assert read_rate_limit(headers("36000", " 35999", "1633218420")) == RateLimit(
        36000, 35999, datetime(2021, 10, 2, 23, 47, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    "hostile",
    [
        {},
        {"X-Rate-Limit-Limit": "36000"},
        headers("", "", ""),
        headers("-1", "0", "1633218420"),
        headers("0", "0", "1633218420"),
        headers("10", "11", "1633218420"),
        headers("1_000", "1", "1633218420"),
        headers("\u0661\u0660", "1", "1633218420"),
        headers("10.5", "1", "1633218420"),
        headers("10, 10", "1, 1", "1633218420"),
        headers("10", "1", "16332184200000000000"),
    ],
)
def test_invalid_rate_limit_headers_are_none(hostile: dict[str, str]) -> None:
    assert read_rate_limit(hostile) is None


@given(st.tuples(st.text(max_size=12), st.text(max_size=12), st.text(alphabet="0123456789", max_size=20)))
def test_any_rate_limit_headers_can_be_read(values: tuple[str, str, str]) -> None:
    read_rate_limit(headers(*values))


@pytest.mark.parametrize("body", [b'{"ok": true}', b'{"lists": null}', b'{"keys": {}, "ok": true}'])
def test_object_without_error_is_success(body: bytes) -> None:
    assert read_answer(200, body) == json.loads(body)


@pytest.mark.parametrize(
    ("status", "body", "error", "code"),
    [
        (429, answer(43), LimitReached, 43),
        (200, answer(43), LimitReached, 43),
        (429, b"<html>", LimitReached, 43),
        (500, answer(43), LimitReached, 43),
        (500, answer(9), Transient, 9),
        (200, answer(9), Transient, 9),
        (400, answer("9"), Transient, 9),
        (500, answer(99), Transient, 99),
        (500, answer(3), Transient, 3),
        (502, b"<html><h1>502 Bad Gateway</h1></html>", Transient, 502),
        (503, b'{"ok": true}', Transient, 503),
        (200, b"<html>", Transient, "unreadable"),
        (200, b"", Transient, "unreadable"),
        (200, b"[]", Transient, "unreadable"),
        (200, b"{}", Transient, "unreadable"),
        (200, b"\xff\xfe", Transient, "unreadable"),
        (200, b"[" * 100_000, Transient, "unreadable"),
        (404, b"<html>", Transient, "unreadable"),
        (403, b"<html>blocked</html>", Transient, "unreadable"),
        (302, b"", Transient, "redirected"),
        (301, b'{"ok": true}', Transient, "redirected"),
        (401, answer(3), CredentialsRefused, 3),
        (403, answer(4), CredentialsRefused, 4),
        (401, answer(5), CredentialsRefused, 5),
        (200, answer(5), CredentialsRefused, 5),
        (401, answer(99), CredentialsRefused, 99),
        (401, b"", CredentialsRefused, 401),
        (404, answer(15), UnknownList, 15),
        (200, answer(15), UnknownList, 15),
        (400, answer(11, f"Invalid email: {ADDRESS}"), Permanent, 11),
        (200, answer(99, f"Invalid email: {ADDRESS}"), Permanent, 99),
        (403, answer(99, "not for this record"), Permanent, 99),
        (403, b'{"message": "Forbidden"}', Transient, 403),
        (404, b'{"message": "No such host"}', Transient, 404),
        (408, b'{"ok": true}', Transient, 408),
        (422, b'{"message": "Too long"}', Permanent, 422),
        (400, b"{}", Permanent, 400),
        (409, answer(99), Permanent, 99),
        (400, answer(2), Permanent, 2),
        (200, answer(None), Permanent, "unnumbered"),
        (200, answer(True), Permanent, "unnumbered"),
        (200, answer(0), Permanent, 0),
        (200, b'{"ok": true, "error": "odd"}', Permanent, "unnumbered"),
        (400, answer(99, f"User not found with email: {ADDRESS}"), Permanent, USER_NOT_FOUND),
        (404, answer(99, f"User not found with email: {ADDRESS}"), Permanent, USER_NOT_FOUND),
        (400, b'{"error": 99, "errormsg": 7}', Permanent, 99),
    ],
)
def test_body_and_status_together_decide_error(
    status: int, body: bytes, error: type[CallFailed], code: int | str
) -> None:
    with pytest.raises(CallFailed) as caught:
        read_answer(status, body)

    assert (type(caught.value), caught.value.code) == (error, code)


def test_both_invalid_email_errors_have_same_text() -> None:
    texts = []
    for code in (11, 99):
        with pytest.raises(Permanent) as caught:
            read_answer(400, answer(code, f"Invalid email: {ADDRESS}"))
        texts.append(str(caught.value))

    assert all("does not accept this e-mail address as valid" in text for text in texts)


def test_limit_reached_carries_end_of_window() -> None:
    resets_at = datetime(2021, 10, 2, 23, 47, tzinfo=UTC)

    with pytest.raises(LimitReached) as caught:
        read_answer(429, answer(43), resets_at=resets_at)

    assert caught.value.resets_at == resets_at


@given(st.integers(100, 599), st.integers(0, 99), st.sampled_from([ADDRESS, f"User not found with email: {ADDRESS}"]))
def test_no_error_quotes_sailthru_message(status: int, code: int, text: str) -> None:
    with pytest.raises(CallFailed) as caught:
        read_answer(status, answer(code, text))

    assert ADDRESS not in "".join(traceback.format_exception(caught.value))


@given(st.integers(100, 599), st.binary(max_size=50))
def test_any_answer_is_object_or_error(status: int, body: bytes) -> None:
    with suppress(CallFailed):
        assert isinstance(read_answer(status, body), dict)
