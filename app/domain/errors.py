"""Every error this service raises on purpose. The type says what to do next::

    AppError
    ├── RejectedWebhook              the sender must change something
    │   ├── UnauthenticatedWebhook     no valid token
    │   └── MalformedWebhook           nothing in the body could be kept
    ├── CallFailed                   one call to Sailthru or Lytics went wrong
    │   ├── Transient                  5xx, 9, not JSON: that person's retry
    │   │   └── NotSent                  refused or cut off before the request left: surely not carried out
    │   ├── LimitReached               43, 429: wait, no attempt spent
    │   │   └── ShareUsedUp              our share of the limit is used up, so the call was not made
    │   ├── OutcomeUnknown             sent, no readable answer: rest, then read before a join is repeated
    │   ├── Permanent                  this record can never work as it is
    │   │   └── ScanExpired              Lytics forgot where the scan stopped: begin it again
    │   ├── UnknownList                ensure it again
    │   └── CredentialsRefused         no call of this account can work: pause the account
    ├── StoreUnavailable             the database can't be written now: 503, the sender comes again
    ├── BadOrder                     of our own API: 422, whatever the present state
    │   └── BadFields                  a sentence for each field that can't go along
    ├── NotFound                     of our own API: 404
    │   └── UnknownAudience            no audience is called so; with near ones
    ├── Conflict                     of our own API: 409
    │   ├── AmbiguousAudience          several audiences are called so
    │   └── NoLyticsToken              Lytics can't be asked, since no API token is set
    ├── BadSettings                  the start is refused, with one sentence that says what to change
    ├── ServiceSaidNo                a command's wish was understood and refused: show the reason
    └── ServiceNotReached            a command's wish got no answer of the service: check where it is

Its text is for people: what happened, why, and what to do next.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from app.domain.rejection import EXPLANATIONS, Reason

if TYPE_CHECKING:
    # What is raised of audiences is raised by their own file.
    from app.domain.audience import Audience

MOST_LISTED = 10


class AppError(Exception):
    """The root. Its text is for people: what happened, why, what to do next; never an address, a value or a secret."""


class RejectedWebhook(AppError):
    """Nothing of this webhook was kept. The text says what happened and what to change in Lytics.

    Args:
        reason: the fixed word for it.
        happened: what happened, where more can be said than the reason's own sentence; never a value.
    """

    def __init__(self, reason: Reason, happened: str = "") -> None:
        self.reason = reason
        self.happened = happened or EXPLANATIONS[reason].happened
        super().__init__(f"{self.happened} {EXPLANATIONS[reason].next_step}")


class UnauthenticatedWebhook(RejectedWebhook):
    """No token, or none that we know."""


class MalformedWebhook(RejectedWebhook):
    """The body can't be understood, and sending it again would not help."""


class CallFailed(AppError):
    """One call did not work.

    Args:
        code: the other end's own error number, or a fixed word of ours such as `timeout`.
        text: what happened, without anything from the other end's free text (it quotes addresses).
    """

    def __init__(self, code: int | str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Transient(CallFailed):
    """May work later: 5xx, error 9, an answer that is not JSON."""


class NotSent(Transient):
    """The request never left, so nothing was carried out."""


class LimitReached(CallFailed):
    """The account's calls for this minute are used up; `resets_at` is when the window ends, if the other end said
    so.
    """

    def __init__(self, code: int | str, text: str, *, resets_at: datetime | None = None) -> None:
        super().__init__(code, text)
        self.resets_at = resets_at


class ShareUsedUp(LimitReached):
    """The call was not made, since our share of the account's limit is used up for now."""


class OutcomeUnknown(CallFailed):
    """The request left, and no answer that can be read came back: it may or may not have been carried out."""


class Permanent(CallFailed):
    """This record can never work as it is."""


class ScanExpired(Permanent):
    """Lytics does not know any more where a scan stopped; the audience is still there."""


class UnknownList(CallFailed):
    """Sailthru does not know the list (any more)."""


class CredentialsRefused(CallFailed):
    """Key, secret or address range refused: no call of this account can work until a person mends it."""


class StoreUnavailable(AppError):
    """The database could not be written or read just now; nothing of the request was kept."""


class BadOrder(AppError):
    """What our own API was asked to do can't be done, whatever the present state.

    Args:
        reason: a fixed word for scripts.
    """

    def __init__(self, text: str, *, reason: str) -> None:
        super().__init__(text)
        self.reason = reason


class NotFound(AppError):
    """What our own API was asked for does not exist."""

    reason: str | None = None


class UnknownAudience(NotFound):
    """No audience has the id, slug or name that was given.

    Args:
        candidates: those that are called much alike, the nearest first; maybe none.
    """

    reason = "unknown_audience"

    def __init__(self, candidates: "Iterable[Audience]" = ()) -> None:
        self.candidates = tuple(candidates)
        near = f" Near: {_listed(self.candidates)}." if self.candidates else ""
        super().__init__(
            f"Lytics has no audience of this id, slug or name.{near}"
            " GET /lytics/audiences lists those that can be exported."
        )


class Conflict(AppError):
    """What our own API was asked to do does not fit the present state.

    Args:
        reason: a fixed word for scripts, where there is one.
        choices: what may be given beside what was asked for, to make it fit; None for any value.
    """

    def __init__(self, text: str, *, reason: str | None = None, choices: Mapping[str, object] | None = None) -> None:
        super().__init__(text)
        self.reason = reason
        self.choices = choices


class AmbiguousAudience(Conflict):
    """Several audiences have the slug or name that was given.

    Args:
        candidates: all of them.
    """

    def __init__(self, candidates: "Iterable[Audience]") -> None:
        self.candidates = tuple(candidates)
        super().__init__(
            f"Several audiences are called so: {_listed(self.candidates)}. Give the id of one.",
            reason="ambiguous_audience",
        )


class NoLyticsToken(Conflict):
    """Lytics can't be asked, since no API token is set."""

    def __init__(self) -> None:
        super().__init__(
            "No LYTICS_API_TOKEN is set, so Lytics can't be asked: make a token in Lytics under Account > Security >"
            " Access Tokens, put it into the settings, and start the service again.",
            reason="no_lytics_token",
        )


class BadFields(BadOrder):
    """Some of the chosen fields can't go along.

    Args:
        problems: a sentence for each.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(" ".join(self.problems), reason="bad_fields")


class BadSettings(AppError):
    """The program can't start like this; the text is one sentence that says what to change."""


class ServiceSaidNo(AppError):
    """The running service did not do what a command asked for; the text is the service's own.

    Args:
        candidates: what may have been meant, one line each, where there is a choice.
    """

    def __init__(self, text: str, candidates: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.candidates = tuple(candidates)


class ServiceNotReached(AppError):
    """No answer of a running service came back; the text says where it was looked for and what to check."""


def _listed(audiences: "Sequence[Audience]") -> str:
    shown = [f'"{one.name}" (id {one.id}, slug {one.slug or "none"})' for one in audiences[:MOST_LISTED]]
    return ", ".join(shown) + (f" and {len(audiences) - MOST_LISTED} more" if len(audiences) > MOST_LISTED else "")
