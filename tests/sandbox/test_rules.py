"""Fault rules, and their JSON form."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from app.sandbox.faults import KINDS, Empty, Error, Fault, Half, Hang, Html, Reset, Slow
from app.sandbox.rules import MIXED_FAULTS, FaultMix, Faults, FaultSettings, Rule, Target, as_json, read_fault_settings
from app.sandbox.sailthru.calls import ENDPOINTS, METHODS

from .caller import ADA, GRACE, KEY

JOIN = Target("POST", "/user", person=ADA, lists=frozenset({"Spring", "Summer"}), api_key=KEY)
READ = Target("GET", "/list", lists=frozenset({"Autumn"}), api_key="another")
SILENCE = Hang()


def faults_by(rules: Sequence[Rule], *, seed: int = 0) -> Faults:
    faults = Faults(methods=METHODS, endpoints=ENDPOINTS)
    faults.set(rules, seed=seed)
    return faults


def met(faults: Faults, *targets: Target) -> list[str | None]:
    """Return the kind of fault that each call with these targets meets, in order."""
    return [fault.kind if (fault := faults.meet(target)) else None for target in targets]


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        (Rule(SILENCE), (True, True)),
        (Rule(SILENCE, methods=frozenset({"POST"})), (True, False)),
        (Rule(SILENCE, endpoints=frozenset({"/list"})), (False, True)),
        (Rule(SILENCE, ids=frozenset({GRACE, ADA.title()})), (True, False)),
        (Rule(SILENCE, ids=frozenset({GRACE})), (False, False)),
        (Rule(SILENCE, lists=frozenset({"Summer", "Winter"})), (True, False)),
        (Rule(SILENCE, lists=frozenset({"summer"})), (False, False)),
        (Rule(SILENCE, api_keys=frozenset({"another"})), (False, True)),
        (Rule(SILENCE, methods=frozenset({"POST"}), lists=frozenset({"Autumn"})), (False, False)),
    ],
)
def test_rule_matches_all_its_conditions(rule: Rule, fits: tuple[bool, bool]) -> None:
    """An empty condition matches. Addresses are compared in any case, names of lists exactly."""
    assert fits == (rule.matches(JOIN), rule.matches(READ))


def test_rule_skips_some_calls_and_then_limits_its_faults() -> None:
    """The rule counts only matching calls."""
    faults = faults_by([Rule(SILENCE, methods=frozenset({"POST"}), times=2, after=1)])

    assert met(faults, JOIN, READ, JOIN, READ, JOIN, JOIN) == [None, None, "hang", None, "hang", None]


def test_first_rule_that_applies_wins() -> None:
    """If a rule is used up or its chance fails, the next rule applies."""
    faults = faults_by([Rule(Error(), chance=0), Rule(Html(), times=1), Rule(Empty(), times=1, after=1), Rule(Reset())])

    assert met(faults, *[JOIN] * 5) == ["html", "reset", "empty", "reset", "reset"]
    described: Any = faults.as_json()["rules"]
    assert [rule["met"] for rule in described] == [0, 1, 1, 3]


def test_same_seed_gives_the_same_faults() -> None:
    rules = [Rule(SILENCE, chance=0.3)]
    first, again, other = (met(faults_by(rules, seed=seed), *[JOIN] * 1000) for seed in (7, 7, 8))

    assert first == again != other
    assert 250 < first.count("hang") < 350


def test_mix_has_its_chance_and_weights() -> None:
    """A fifth of 20,000 calls meets a fault, and errors are three times as frequent as resets."""
    faults = faults_by(FaultMix(chance=0.2, weights={"error": 3, "reset": 1, "slow": 0}).rules(), seed=1)
    counts = Counter(met(faults, *[JOIN] * 20_000))

    assert set(counts) == {None, "error", "reset"}
    assert counts["error"] == pytest.approx(3000, rel=0.1)
    assert counts["reset"] == pytest.approx(1000, rel=0.1)


def test_default_mix_has_every_fault() -> None:
    """With a chance of 1, every call meets a fault."""
    faults = faults_by(FaultMix(chance=1).rules(), seed=1)
    found = [faults.meet(JOIN) for _ in range(5000)]

    assert set(KINDS) == set(MIXED_FAULTS)
    assert {fault for variety in MIXED_FAULTS.values() for fault in variety} == set(found)


@pytest.mark.parametrize(
    ("fault", "at"),
    [
        (Hang(), 0),
        (Hang(apply_after=20), 20),
        (Slow(seconds=3), 1.5),
        (Slow(seconds=3, apply_after=0), 0),
        (Html(applied=True), 0),
    ],
)
def test_time_of_effect(fault: Fault, at: float) -> None:
    """By default a call takes effect at once, and a slow call halfway."""
    assert fault.applied
    assert at == fault.applies_after


def test_fault_settings_are_read_from_json() -> None:
    text = """{
        "rules": [
            {"fault": {"kind": "error", "status": 429, "code": 43, "text": "Slow down", "with_rate_headers": false},
             "methods": ["POST"], "endpoints": ["/user"], "ids": ["Ada@Example.com"], "lists": ["Spring"],
             "api_keys": ["test_key"], "times": 3, "after": 2, "chance": 0.5},
            {"fault": {"kind": "hang", "apply_after": 20}}
        ],
        "mix": {"chance": 0.1, "weights": {"half": 1}},
        "seed": 7
    }"""
    settings = read_fault_settings(text.encode())

    assert settings == FaultSettings(
        (
            Rule(
                Error(status=429, code=43, text="Slow down", with_rate_headers=False),
                methods=frozenset({"POST"}),
                endpoints=frozenset({"/user"}),
                ids=frozenset({ADA}),
                lists=frozenset({"Spring"}),
                api_keys=frozenset({KEY}),
                times=3,
                after=2,
                chance=0.5,
            ),
            Rule(Hang(apply_after=20)),
        ),
        FaultMix(chance=0.1, weights={"half": 1}),
        seed=7,
    )
    assert [rule.fault for rule in settings.all_rules()[2:]] == [Half(), Half(applied=False)]


def test_written_rules_can_be_read() -> None:
    rules = (*FaultMix(chance=0.5).rules(), Rule(Slow(seconds=3), ids=frozenset({ADA, GRACE}), times=1))

    assert read_fault_settings(json.dumps({"rules": as_json(rules)}).encode()) == FaultSettings(rules)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"rules": {}}, "rules: "),
        ({"rule": []}, "rule: "),
        ({"rules": [{}]}, "rules.0.fault: "),
        ({"rules": [{"fault": "hang"}]}, "rules.0.fault: "),
        ({"rules": [{"fault": {"kind": "flood"}}]}, "rules.0.fault: "),
        ({"rules": [{"fault": {"kind": "hang", "status": 500}}]}, "rules.0.fault.hang.status: "),
        ({"rules": [{"fault": {"kind": "error", "status": 42}}]}, "rules.0.fault.error.status: "),
        ({"rules": [{"fault": {"kind": "error", "code": "9"}}]}, "rules.0.fault.error.code: "),
        ({"rules": [{"fault": {"kind": "slow", "seconds": -1}}]}, "rules.0.fault.slow.seconds: "),
        ({"rules": [{"fault": {"kind": "slow", "applied": False}}]}, "rules.0.fault.slow.applied: "),
        ({"rules": [{"fault": {"kind": "html", "apply_after": 1}}]}, "`apply_after` is for a call that is `applied`"),
        ({"rules": [{"fault": {"kind": "hang"}, "times": 0}]}, "rules.0.times: "),
        ({"rules": [{"fault": {"kind": "hang"}, "after": -1}]}, "rules.0.after: "),
        ({"rules": [{"fault": {"kind": "hang"}, "chance": 1.5}]}, "rules.0.chance: "),
        ({"rules": [{"fault": {"kind": "hang"}, "methods": "POST"}]}, "rules.0.methods: "),
        ({"rules": [{"fault": {"kind": "hang"}, "person": "ada"}]}, "rules.0.person: "),
        ({"mix": {}}, "mix.chance: "),
        ({"mix": {"chance": 0.1, "weights": {"flood": 1}}}, "mix.weights.flood"),
        ({"mix": {"chance": 0.1, "weights": {"hang": 0}}}, "`weights` has no kind with a weight above 0"),
        ({"seed": "now"}, "seed: "),
    ],
)
def test_error_names_the_place_in_the_json(body: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        read_fault_settings(json.dumps(body).encode())

    assert expected in str(error.value)


def test_rules_made_in_python_are_validated() -> None:
    with pytest.raises(ValueError, match="chance"):
        Rule(SILENCE, chance=2)
    with pytest.raises(ValueError, match="apply_after"):
        Error(apply_after=1)
