"""Which calls meet a fault: by what they are about, by number, by dice that roll the same for the same seed."""

import random
from collections.abc import Iterable, Mapping
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field, PlainSerializer, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from app.sandbox.answers import JSONObject
from app.sandbox.faults import AS_TOLD, KINDS, AnyFault, Empty, Error, Fault, Half, Hang, Html, Kind, Reset, Slow, Xml

Chance = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Names = Annotated[frozenset[str], PlainSerializer(sorted)]
Addresses = Annotated[Names, AfterValidator(lambda names: frozenset(name.lower() for name in names))]

USUAL: Mapping[Kind, tuple[AnyFault, ...]] = {
    "error": (Error(), Error(status=200)),
    "xml": (Xml(),),
    "html": (Html(), Html(status=503), Html(status=504, applied=True), Html(status=200)),
    "empty": (Empty(), Empty(status=200)),
    "half": (Half(), Half(applied=False)),
    "hang": (Hang(), Hang(applied=False), Hang(apply_after=20)),
    "reset": (Reset(), Reset(applied=False)),
    "slow": (Slow(),),
}
"""
What a mix is made of: troubles that pass, none that says that a person, a list or a key is wrong, or that there were
too many calls.
"""


class Target(NamedTuple):
    """What a call is about, as far as rules can tell calls apart; the person by a lower-case address."""

    method: str
    endpoint: str
    person: str | None = None
    lists: frozenset[str] = frozenset()
    api_key: str | None = None


@dataclass(frozen=True, config=AS_TOLD)
class Rule:
    """A fault, and the calls that meet it: those that fit in every respect that is not left empty.

    Attributes:
        fault: what they meet.
        methods: GET, POST, DELETE.
        endpoints: with the slash, such as "/user".
        ids: addresses of people, in any case, whichever key the call names them by.
        lists: of which the call names at least one.
        api_keys: by which the call is signed.
        times: how many calls meet the fault, None for every one.
        after: how many that fit are spared first.
        chance: of those that then fit to meet it.
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

    def fits(self, target: Target) -> bool:
        """Whether a call about this can meet the fault."""
        return (
            (not self.methods or target.method in self.methods)
            and (not self.endpoints or target.endpoint in self.endpoints)
            and (not self.ids or target.person in self.ids)
            and (not self.lists or not self.lists.isdisjoint(target.lists))
            and (not self.api_keys or target.api_key in self.api_keys)
        )


@dataclass(frozen=True, config=AS_TOLD)
class Mix:
    """Any call may meet any of the usual faults.

    Attributes:
        chance: of a call to meet one of them.
        weights: how often each kind comes, beside the others; those not named never do. Without, all come as often.
    """

    chance: Chance
    weights: dict[Kind, Weight] = Field(default_factory=lambda: dict.fromkeys(KINDS, 1.0))

    def __post_init__(self) -> None:
        """Refuses weights that leave nothing to choose from."""
        if not sum(self.weights.values()):
            raise ValueError("`weights` has no kind with a weight above 0")

    def rules(self) -> tuple[Rule, ...]:
        """The mix as rules: of each, the chance given that none before it struck."""
        total = sum(self.weights.values())
        chances = [
            (fault, self.chance * weight / total / len(USUAL[kind]))
            for kind, weight in self.weights.items()
            for fault in USUAL[kind]
        ]
        rules = []
        left = 1.0
        for fault, chance in chances:
            # what is left may come to a hair less than it should
            rules.append(Rule(fault, chance=chance / max(left, chance) if chance else 0.0))
            left -= chance
        return tuple(rules)


@dataclass(frozen=True, config=AS_TOLD)
class Wish:
    """What a sandbox is told by JSON: the rules in order, those of the mix behind them."""

    rules: tuple[Rule, ...] = ()
    mix: Mix | None = None
    seed: int = 0

    def all_rules(self) -> tuple[Rule, ...]:
        """Those that are spelled out, and those of the mix."""
        return self.rules + (self.mix.rules() if self.mix else ())


class Faults:
    """The rules that a sandbox goes by, none at first; `methods` and `endpoints` are those it has."""

    def __init__(self, *, methods: frozenset[str], endpoints: frozenset[str]) -> None:
        self._known = (("method", "methods", methods), ("endpoint", "endpoints", endpoints))
        self.set(())

    def set(self, rules: Iterable[Rule], *, seed: int = 0) -> None:
        """From now on calls meet these faults, and no longer those of before; without rules, none. `Mix(...).rules()`
        is a ready-made choice.

        Raises:
            ValueError: a rule names a method or an endpoint that there is not, and nothing has changed.
        """
        rules = tuple(rules)
        for rule in rules:
            for what, field, known in self._known:
                for name in sorted(getattr(rule, field) - known):
                    raise ValueError(f"No such {what}: {name}. There are {', '.join(sorted(known))}.")
        self.rules = rules
        self.seed = seed
        self._fitted = [0] * len(self.rules)
        self._met = [0] * len(self.rules)
        self._dice = random.Random(seed)  # noqa: S311 -- no secret is made of it, and it has to repeat itself

    def meet(self, target: Target) -> Fault | None:
        """What a call that arrives now runs into: the fault of the first rule that fits and wins its dice. A rule
        behind that one does not count the call.
        """
        for place, rule in enumerate(self.rules):
            if not rule.fits(target) or self._met[place] == rule.times:
                continue
            self._fitted[place] += 1
            if self._fitted[place] > rule.after and self._dice.random() < rule.chance:
                self._met[place] += 1
                return rule.fault
        return None

    def as_json(self) -> JSONObject:
        """The seed, and the rules with how many calls have met each."""
        shown = zip(as_json(self.rules), self._met, strict=True)
        return {"seed": self.seed, "rules": [{**rule, "met": met} for rule, met in shown]}


def as_json(rules: Iterable[Rule]) -> list[JSONObject]:
    """The rules as the control door takes them."""
    shown: list[JSONObject] = _RULES.dump_python(tuple(rules), mode="json")
    return shown


def read_wish(body: bytes) -> Wish:
    """The wish in a JSON object.

    Raises:
        ValueError: it can't be understood; the text says where and why.
    """
    try:
        return _WISH.validate_json(body, strict=True)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise ValueError("; ".join(faults)) from None


_RULES: TypeAdapter[tuple[Rule, ...]] = TypeAdapter(tuple[Rule, ...])
_WISH = TypeAdapter(Wish)
