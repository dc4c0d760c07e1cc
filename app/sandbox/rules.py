"""Rules that select the calls that meet a fault: by target, by count, or at random with a seed."""

import random
from collections.abc import Iterable, Mapping
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field, PlainSerializer, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from app.sandbox.bodies import JSONObject
from app.sandbox.faults import KINDS, STRICT, AnyFault, Empty, Error, Fault, Half, Hang, Html, Kind, Reset, Slow, Xml

Chance = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Names = Annotated[frozenset[str], PlainSerializer(sorted)]
Addresses = Annotated[Names, AfterValidator(lambda names: frozenset(name.lower() for name in names))]

# The faults that a mix draws from. All are transient. None concerns a person, list or key, and none is a rate limit.
MIXED_FAULTS: Mapping[Kind, tuple[AnyFault, ...]] = {
    "error": (Error(), Error(status=200)),
    "xml": (Xml(),),
    "html": (Html(), Html(status=503), Html(status=504, applied=True), Html(status=200)),
    "empty": (Empty(), Empty(status=200)),
    "half": (Half(), Half(applied=False)),
    "hang": (Hang(), Hang(applied=False), Hang(apply_after=20)),
    "reset": (Reset(), Reset(applied=False)),
    "slow": (Slow(),),
}


class Target(NamedTuple):
    """The properties of a call that rules can match. `person` is a lower-case address."""

    method: str
    endpoint: str
    person: str | None = None
    lists: frozenset[str] = frozenset()
    api_key: str | None = None


@dataclass(frozen=True, config=STRICT)
class Rule:
    """A fault, and the calls that meet it. An empty condition matches every call.

    Attributes:
        methods: GET, POST, DELETE.
        endpoints: with the slash, such as "/user".
        ids: addresses of people, in any case. They also match calls that name the person by another key.
        lists: names of lists; the call must name at least one of them.
        api_keys: the keys that may have signed the call.
        times: how many calls meet the fault; None for no limit.
        after: how many matching calls pass before the first fault.
        chance: the probability that a matching call meets the fault.
    """

    fault: AnyFault
    methods: Names = frozenset()
    endpoints: Names = frozenset()
    ids: Addresses = frozenset()
    lists: Names = frozenset()
    api_keys: Names = frozenset()
    times: Annotated[int, Field(ge=1)] | None = None
    after: Annotated[int, Field(ge=0)] = 0
    chance: Chance = 1.0

    def matches(self, target: Target) -> bool:
        return (
            (not self.methods or target.method in self.methods)
            and (not self.endpoints or target.endpoint in self.endpoints)
            and (not self.ids or target.person in self.ids)
            and (not self.lists or not self.lists.isdisjoint(target.lists))
            and (not self.api_keys or target.api_key in self.api_keys)
        )


@dataclass(frozen=True, config=STRICT)
class FaultMix:
    """Random transient faults: any call may meet any of `MIXED_FAULTS`.

    Attributes:
        chance: the probability that a call meets one of them.
        weights: the relative frequency of each kind; a kind that is not named never occurs. By default all are equal.
    """

    chance: Chance
    weights: dict[Kind, Weight] = Field(default_factory=lambda: dict.fromkeys(KINDS, 1.0))

    def __post_init__(self) -> None:
        if not sum(self.weights.values()):
            raise ValueError("`weights` has no kind with a weight above 0")

    def rules(self) -> tuple[Rule, ...]:
        """Return the mix as rules. The chance of each is conditional: no earlier rule applied."""
        total = sum(self.weights.values())
        chances = [
            (fault, self.chance * weight / total / len(MIXED_FAULTS[kind]))
            for kind, weight in self.weights.items()
            for fault in MIXED_FAULTS[kind]
        ]
        rules = []
        left = 1.0
        for fault, chance in chances:
            # Rounding may leave slightly less than `chance`.
            rules.append(Rule(fault, chance=chance / max(left, chance) if chance else 0.0))
            left -= chance
        return tuple(rules)


@dataclass(frozen=True, config=STRICT)
class FaultSettings:
    """The body of `POST /_sandbox/faults`."""

    rules: tuple[Rule, ...] = ()
    mix: FaultMix | None = None
    seed: int = 0

    def all_rules(self) -> tuple[Rule, ...]:
        """Return the explicit rules, followed by those of the mix."""
        return self.rules + (self.mix.rules() if self.mix else ())


class Faults:
    """The rules that a sandbox applies, none at first. `methods` and `endpoints` are all that the sandbox has."""

    def __init__(self, *, methods: frozenset[str], endpoints: frozenset[str]) -> None:
        self._known = (("method", "methods", methods), ("endpoint", "endpoints", endpoints))
        self.set(())

    def set(self, rules: Iterable[Rule], *, seed: int = 0) -> None:
        """Replace all rules and their counts.

        Raises:
            ValueError: a rule names an unknown method or endpoint; the rules stay as they were.
        """
        rules = tuple(rules)
        for rule in rules:
            for label, field, known in self._known:
                for name in sorted(getattr(rule, field) - known):
                    raise ValueError(f"No such {label}: {name}. There are {', '.join(sorted(known))}.")
        self.rules = rules
        self.seed = seed
        self._matched = [0] * len(self.rules)
        self._met = [0] * len(self.rules)
        self._dice = random.Random(seed)  # noqa: S311 - not a secret, and it must be reproducible

    def meet(self, target: Target) -> Fault | None:
        """Return the fault of the first rule that applies to this call. Later rules do not count the call."""
        for index, rule in enumerate(self.rules):
            if not rule.matches(target) or self._met[index] == rule.times:
                continue
            self._matched[index] += 1
            if self._matched[index] > rule.after and self._dice.random() < rule.chance:
                self._met[index] += 1
                return rule.fault
        return None

    def as_json(self) -> JSONObject:
        """Return the seed and the rules, each with the number of calls that met it."""
        counted = zip(as_json(self.rules), self._met, strict=True)
        return {"seed": self.seed, "rules": [{**rule, "met": met} for rule, met in counted]}


def as_json(rules: Iterable[Rule]) -> list[JSONObject]:
    """Return the rules in the form that `POST /_sandbox/faults` accepts."""
    dumped: list[JSONObject] = _RULES.dump_python(tuple(rules), mode="json")
    return dumped


def read_fault_settings(body: bytes) -> FaultSettings:
    """Parse a JSON body.

    Raises:
        ValueError: the body is invalid; the text says where and why.
    """
    try:
        return _SETTINGS.validate_json(body, strict=True)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors()]
        raise ValueError("; ".join(problems)) from None


_RULES: TypeAdapter[tuple[Rule, ...]] = TypeAdapter(tuple[Rule, ...])
_SETTINGS = TypeAdapter(FaultSettings)
