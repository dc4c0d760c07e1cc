"""What can go wrong with a call: each kind of fault, what it answers, and whether and when the call takes effect.

Seen at Sailthru: errors in every status, also 200; HTML and empty bodies; XML; connections that hang or break; calls
carried out after their client had given up.
"""

from dataclasses import replace
from typing import Annotated, Literal, get_args

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from app.sandbox.answers import Answer

AS_TOLD = ConfigDict(extra="forbid")
"""
Checks every value, in Python as in JSON, and takes no name that means nothing.
"""

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Status = Annotated[int, Field(ge=200, le=599)]
Kind = Literal["error", "html", "xml", "empty", "half", "hang", "reset", "slow"]

DONE = Answer(200, {"ok": True})


@dataclass(frozen=True, kw_only=True, config=AS_TOLD)
class Fault:
    """What goes wrong. All times are counted from the arrival of the call.

    Attributes:
        kind: one word for what the client gets.
        applied: the call takes effect all the same.
        apply_after: seconds until it does, by default none; it happens also if the client has gone by then.
        seconds: until the client gets what it gets; never before the call is applied. Of no meaning for a `Hang`.
        with_rate_headers: whether an answer has them.
    """

    kind: Kind
    applied: bool = False
    apply_after: Seconds | None = None
    seconds: Seconds = 0.0
    with_rate_headers: bool = True

    def __post_init__(self) -> None:
        """Refuses what contradicts itself."""
        if self.apply_after is not None and not self.applied:
            raise ValueError("`apply_after` is for a call that is `applied`")

    @property
    def applies_after(self) -> float:
        """Seconds from the arrival to the effect."""
        return self.apply_after or 0.0


@dataclass(frozen=True, kw_only=True, config=AS_TOLD)
class Error(Fault):
    """An error of Sailthru's own, as JSON: number and words, in any status."""

    kind: Literal["error"] = "error"
    status: Status = 500
    code: int = 9
    text: str = "Internal error"


@dataclass(frozen=True, kw_only=True, config=AS_TOLD)
class Xml(Fault):
    """The same as XML, although JSON was asked for."""

    kind: Literal["xml"] = "xml"
    status: Status = 500
    code: int = 9
    text: str = "Internal error"


@dataclass(frozen=True, kw_only=True, config=AS_TOLD)
class Html(Fault):
    """A page, as the servers in front of an API answer in its place."""

    kind: Literal["html"] = "html"
    status: Status = 502


@dataclass(frozen=True, kw_only=True, config=AS_TOLD)
class Empty(Fault):
    """A status, and nothing in it."""

    kind: Literal["empty"] = "empty"
    status: Status = 500


@dataclass(frozen=True, kw_only=True, config=AS_TOLD)
class Half(Fault):
    """The first half of the right answer (where the call is not applied, of "ok"), and the connection is closed."""

    kind: Literal["half"] = "half"
    applied: bool = True


@dataclass(frozen=True, kw_only=True, config=AS_TOLD)
class Hang(Fault):
    """No answer, until the client hangs up."""

    kind: Literal["hang"] = "hang"
    applied: bool = True


@dataclass(frozen=True, kw_only=True, config=AS_TOLD)
class Reset(Fault):
    """The connection is reset in place of an answer."""

    kind: Literal["reset"] = "reset"
    applied: bool = True


@dataclass(frozen=True, kw_only=True, config=AS_TOLD)
class Slow(Fault):
    """The right answer, but late. By default the call is applied halfway."""

    kind: Literal["slow"] = "slow"
    applied: Literal[True] = True
    seconds: Seconds = 1.0

    @property
    def applies_after(self) -> float:
        """Seconds from the arrival to the effect."""
        return self.seconds / 2 if self.apply_after is None else self.apply_after


KINDS: tuple[Kind, ...] = get_args(Kind)
AnyFault = Annotated[Error | Xml | Html | Empty | Half | Hang | Reset | Slow, Field(discriminator="kind")]


def answer(fault: Fault, normal: Answer) -> Answer | None:
    """What the client gets where `normal` would be right; None where the connection just ends."""
    match fault:
        case Error(status=status, code=code, text=text):
            said = Answer(status, {"error": code, "errormsg": text})
        case Xml(status=status, code=code, text=text):
            said = Answer(status, {"error": code, "errormsg": text}, form="xml")
        case Html(status=status):
            said = Answer(status, {}, form="html")
        case Empty(status=status):
            said = Answer(status, {}, form="empty")
        case Half():
            said = replace(normal, form="half")
        case Slow():
            said = normal
        case _:
            return None
    return replace(said, with_rate_headers=fault.with_rate_headers)
