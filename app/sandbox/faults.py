"""The kinds of fault. Each sets the client's answer, and whether and when the call still takes effect.

All of them occurred at Sailthru. Errors came with every status, even 200, and bodies were HTML, XML or empty.
Connections hung or broke. Calls were carried out after the client had disconnected.
"""

from typing import Annotated, Literal, get_args

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

# Validates every value, in Python and in JSON, and refuses unknown names.
STRICT = ConfigDict(extra="forbid")

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Status = Annotated[int, Field(ge=200, le=599)]
Kind = Literal["error", "html", "xml", "empty", "half", "hang", "reset", "slow"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Fault:
    """A failure of a call. All times count from the arrival of the call.

    Attributes:
        applied: the call takes effect although it fails.
        apply_after: seconds until the call takes effect, even if the client has disconnected by then.
        seconds: seconds until the client gets its answer. Never before the call is applied. A `Hang` ignores it.
        with_rate_headers: whether the answer carries Sailthru's rate limit headers.
    """

    kind: Kind
    applied: bool = False
    apply_after: Seconds | None = None
    seconds: Seconds = 0.0
    with_rate_headers: bool = True

    def __post_init__(self) -> None:
        if self.apply_after is not None and not self.applied:
            raise ValueError("`apply_after` is for a call that is `applied`")

    @property
    def applies_after(self) -> float:
        """Seconds from the arrival of the call until it takes effect."""
        return self.apply_after or 0.0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Error(Fault):
    """An error in Sailthru's own JSON form, with any status."""

    kind: Literal["error"] = "error"
    status: Status = 500
    code: int = 9
    text: str = "Internal error"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Xml(Fault):
    """The same error as XML, although the caller asked for JSON."""

    kind: Literal["xml"] = "xml"
    status: Status = 500
    code: int = 9
    text: str = "Internal error"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Html(Fault):
    """The error page of a proxy."""

    kind: Literal["html"] = "html"
    status: Status = 502


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Empty(Fault):
    """A status with an empty body."""

    kind: Literal["empty"] = "empty"
    status: Status = 500


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Half(Fault):
    """The first half of the normal answer, then the connection closes.

    If the call is not applied, the normal answer is `{"ok": true}`.
    """

    kind: Literal["half"] = "half"
    applied: bool = True


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Hang(Fault):
    """No answer until the client disconnects."""

    kind: Literal["hang"] = "hang"
    applied: bool = True


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Reset(Fault):
    """A connection reset instead of an answer."""

    kind: Literal["reset"] = "reset"
    applied: bool = True


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Slow(Fault):
    """The normal answer, but late. By default the call is applied halfway."""

    kind: Literal["slow"] = "slow"
    applied: Literal[True] = True
    seconds: Seconds = 1.0

    @property
    def applies_after(self) -> float:
        """Seconds from the arrival of the call until it takes effect."""
        return self.seconds / 2 if self.apply_after is None else self.apply_after


KINDS: tuple[Kind, ...] = get_args(Kind)
AnyFault = Annotated[Error | Xml | Html | Empty | Half | Hang | Reset | Slow, Field(discriminator="kind")]
