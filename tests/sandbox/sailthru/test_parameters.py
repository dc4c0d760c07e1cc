"""Signature, order of the checks, and form of the errors."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.sandbox.sailthru import Access, SailthruSandbox
from app.sandbox.sailthru.parameters import Parameters, signature
from tests.sandbox.caller import ADA, GRACE, KEY, SECRET, account_state, behind, call, send, signed

VECTORS = Path(__file__).parents[2] / "fixtures/sailthru/signature_vectors.json"
ENDPOINTS = [("GET", "/user"), ("POST", "/user"), ("DELETE", "/user"), ("GET", "/list"), ("POST", "/list")]


def flat_vectors() -> list[Any]:
    vectors = json.loads(VECTORS.read_text())["vectors"]
    return [
        pytest.param(vector, id=vector["name"])
        for vector in vectors
        if isinstance(vector["params"], dict) and all(isinstance(value, str) for value in vector["params"].values())
    ]


@pytest.mark.parametrize("vector", flat_vectors())
def test_signature_matches_published_examples(vector: Any) -> None:
    assert vector["sig"] == signature(vector["secret"], vector["params"].values())


@pytest.mark.parametrize(("method", "endpoint"), ENDPOINTS)
async def test_signature_with_one_wrong_character_is_refused(
    sandbox: SailthruSandbox, http: httpx.AsyncClient, method: str, endpoint: str
) -> None:
    parameters = signed({"id": ADA, "list": "Spring"})
    sig = parameters["sig"]
    for place in range(len(sig)):
        other = "0" if sig[place] != "0" else "1"
        answer = await send(http, method, endpoint, {**parameters, "sig": sig[:place] + other + sig[place + 1 :]})

        assert answer.status_code == 401
        assert answer.json() == {"error": 5, "errormsg": "Signature hash does not match"}

    assert set() == sandbox.account(KEY).list_names()
    assert sandbox.account(KEY).profiles == {}


@pytest.mark.parametrize("sig", ["", None, "upper", "longer"])
async def test_malformed_signature_is_refused(http: httpx.AsyncClient, sig: str | None) -> None:
    """The signature is missing, empty, in upper case, or has a suffix."""
    parameters = signed({"id": ADA})
    right = parameters.pop("sig")
    if sig is not None:
        parameters["sig"] = {"upper": right.upper(), "longer": right + "0"}.get(sig, sig)

    assert (await send(http, "POST", "/user", parameters)).status_code == 401


async def test_changed_json_is_refused(http: httpx.AsyncClient) -> None:
    """The signature covers the exact text, so even an added space breaks it."""
    parameters = signed({"id": ADA, "lists": {"Spring": 1}})
    text = parameters["json"]
    for other in [text[:place] + "~" + text[place + 1 :] for place in range(len(text))] + [text + " "]:
        answer = await send(http, "POST", "/user", {**parameters, "json": other})

        assert answer.json()["error"] == 5

    assert (await send(http, "POST", "/user", parameters)).status_code == 200


async def test_added_parameter_is_refused(http: httpx.AsyncClient) -> None:
    """The signature covers every parameter but itself."""
    answer = await send(http, "POST", "/user", {**signed({"id": ADA}), "extra": "1"})

    assert answer.json()["error"] == 5


@pytest.mark.parametrize(
    ("text", "separators"), [("žluť & 'quotes' + 100 %", (",", ":")), ("ñ😀", (", ", ": "))], ids=["compact", "spaced"]
)
@pytest.mark.parametrize("is_ascii", [True, False])
async def test_any_form_of_the_json_may_be_signed(
    sandbox: SailthruSandbox, http: httpx.AsyncClient, text: str, separators: tuple[str, str], is_ascii: bool
) -> None:
    """The text may be escaped or raw, with or without spaces, in the query or in the form."""
    payload = json.dumps({"id": ADA, "vars": {"name": text}}, ensure_ascii=is_ascii, separators=separators)
    parameters = {"api_key": KEY, "format": "json", "json": payload}
    parameters["sig"] = signature(SECRET, parameters.values())

    assert (await send(http, "POST", "/user", parameters)).status_code == 200
    assert text == (await send(http, "GET", "/user", parameters)).json()["vars"]["name"]


async def test_checks_run_in_sailthrus_order(sandbox: SailthruSandbox) -> None:
    """The order is path, method, key present, key known, host, signature, parameters."""
    sandbox.allowed_hosts = {"192.0.2.1"}
    wrong: dict[str, str] = {"format": "json", "json": "nonsense", "sig": "0"}
    async with behind(sandbox) as http:
        answers = [
            await http.put("/nowhere", params=wrong),
            await http.put("/user", params=wrong),
            await http.get("/user", params=wrong),
            await http.get("/user", params={**wrong, "api_key": "another"}),
            await http.get("/user", params={**wrong, "api_key": KEY}),
        ]
        sandbox.allowed_hosts = {"127.0.0.1"}
        answers.append(await http.get("/user", params={**wrong, "api_key": KEY}))
        wrong.pop("sig")
        sig = signature(SECRET, [KEY, *wrong.values()])
        answers.append(await http.get("/user", params={**wrong, "api_key": KEY, "sig": sig}))
        answers.append(await call(http, "GET", "/user", {}))

    confirmed = [(answer.status_code, answer.json()["error"]) for answer in answers]

    assert confirmed == [(404, 99), (405, 1), (400, 2), (401, 3), (403, 4), (401, 5), (400, 99), (400, 2)]
    assert sandbox.state()["refused_strangers"] == 4
    assert account_state(sandbox)["calls"] == {"GET /user": 4}


async def test_errors_are_xml_unless_json_is_requested(http: httpx.AsyncClient) -> None:
    """The recorded answers show this. The Accept header does not matter."""
    answer = await http.get("/user", headers={"Accept": "application/json"})

    assert answer.status_code == 400
    assert answer.headers["content-type"] == "text/xml"
    assert answer.text == (
        '<?xml version="1.0" encoding="utf-8"?>'
        "<triggermail><error>2</error><errormsg>Missing required parameter: api_key</errormsg></triggermail>"
    )


async def test_xml_is_escaped(http: httpx.AsyncClient) -> None:
    parameters = {"api_key": KEY, "format": "xml", "json": '{"list": "R&D <new>"}'}
    answer = await send(http, "GET", "/list", {**parameters, "sig": signature(SECRET, parameters.values())})

    assert "<errormsg>Unknown list: R&amp;D &lt;new&gt;</errormsg>" in answer.text


async def test_post_must_be_a_form(http: httpx.AsyncClient) -> None:
    """A JSON body and the query of a POST hold no parameters."""
    in_body = await http.post("/user", json=signed({"id": ADA}))
    in_query = await http.post("/user", params=signed({"id": ADA}))

    assert "<error>2</error>" in in_body.text
    assert "<error>2</error>" in in_query.text


async def test_invalid_utf_8_is_refused(http: httpx.AsyncClient) -> None:
    answer = await http.get("/user?api_key=%ff&format=json")

    assert answer.status_code == 400
    assert "<error>6</error>" in answer.text


def test_empty_array_is_an_empty_object() -> None:
    """PHP encodes an empty object as an empty array. An empty text means the same."""
    assert Parameters((("json", "[]"),)).payload() == {}
    assert Parameters().payload() == {}


async def test_each_key_has_its_own_account_unless_shared() -> None:
    """Each key has its own secret."""
    sandbox = SailthruSandbox(
        {"one": "secret-1", "two": Access("secret-2", "one"), "three": "secret-3"}, limits={("GET", "/user"): 2}
    )
    async with behind(sandbox) as http:
        await call(http, "POST", "/user", {"id": ADA, "lists": {"Spring": 1}}, key="one", secret="secret-1")
        await call(http, "POST", "/user", {"id": GRACE, "lists": {"Spring": 1}}, key="three", secret="secret-3")
        by_two = await call(http, "GET", "/user", {"id": ADA}, key="two", secret="secret-2")
        by_one = await call(http, "GET", "/user", {"id": ADA}, key="one", secret="secret-1")
        by_three = await call(http, "GET", "/user", {"id": ADA}, key="three", secret="secret-3")
        crossed = await call(http, "GET", "/user", {"id": ADA}, key="two", secret="secret-1")

    assert [answer.status_code for answer in (by_two, by_one, by_three, crossed)] == [200, 200, 400, 401]
    assert [answer.headers["X-Rate-Limit-Remaining"] for answer in (by_two, by_one, by_three)] == ["1", "0", "1"]
    accounts: Any = sandbox.state()["accounts"]
    assert set(accounts) == {"one", "three"}
    assert {ADA, GRACE} == sandbox.members("Spring")
