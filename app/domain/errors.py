"""Every error that this service raises on purpose. The type says what to do next::

    AppError
    ├── RejectedWebhook              the sender must change something; kept as a rejected event
    │   ├── UnauthenticatedWebhook     401: no valid token
    │   └── MalformedWebhook           400: nothing in the body can be stored
    ├── CallFailed                   a call to Sailthru or Lytics failed
    │   ├── Transient                  5xx, error 9, not JSON: retry this member
    │   │   └── NotSent                  the request never left: it was not carried out
    │   ├── LimitReached               43, 429: wait; no attempt is counted
    │   │   └── ShareUsedUp              our share of the limit is used up: the call was not made
    │   ├── OutcomeUnknown             sent, no readable answer: wait, then read before a join is repeated
    │   ├── Permanent                  this member can never work as it is
    │   │   └── ScanExpired              Lytics lost the position of the scan: start it again
    │   ├── UnknownList                ensure the list again
    │   └── CredentialsRefused         no call of this account can work: open its circuit breaker
    ├── StoreUnavailable             the database cannot be used now: 503, the sender repeats the request
    ├── BadOrder                     of our own API: 422, the request can never be carried out
    │   └── BadFields                  some of the chosen fields cannot be exported
    ├── NotFound                     of our own API: 404
    │   └── UnknownAudience            no audience has this id, slug or name
    ├── Conflict                     of our own API: 409, the request does not fit the present state
    │   ├── AmbiguousAudience          several audiences have this slug or name
    │   └── NoLyticsToken              Lytics cannot be asked without an API token
    ├── BadSettings                  the service does not start: correct the settings
    ├── ServiceRefused               the service refused a command: show its reason
    └── ServiceUnreachable           the service did not answer a command: check its address

The text of an error is for operators: what happened, why, and what to do next.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from app.domain.rejection import Reason

if TYPE_CHECKING:
    # audience.py imports this module, because it raises some of these errors.
    from app.domain.audience import Audience

MOST_LISTED = 10


class AppError(Exception):
    """The root. Its text says what happened, why, and what to do; it never holds an address, a value or a secret."""


class RejectedWebhook(AppError):
    """Nothing of this webhook was stored. `app.explain.rejections` has the advice for each reason.

    Args:
        happened: the problem, if it is more specific than the reason; never a value of the body.
    """

    def __init__(self, reason: Reason, happened: str = "") -> None:
        super().__init__(happened or reason.value)
        self.reason = reason
        self.happened = happened


class UnauthenticatedWebhook(RejectedWebhook):
    """The webhook has no token, or an unknown one."""


class MalformedWebhook(RejectedWebhook):
    """No event in the body can be stored. Sending the body again would not help."""


class CallFailed(AppError):
    """A call to Sailthru or Lytics failed.

    Args:
        code: the vendor's own error number, or a fixed word of this service such as `timeout`.
        text: what happened, without any text from the vendor, which may quote addresses.
    """

    def __init__(self, code: int | str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Transient(CallFailed):
    """The same call may work later, for example after a 5xx, error 9, or an answer that is not JSON."""


class NotSent(Transient):
    """The request never left this machine, so it was not carried out."""


class LimitReached(CallFailed):
    """The rate limit of the account is used up for this minute.

    Args:
        resets_at: when the limit resets; None if the vendor did not say.
    """

    def __init__(self, code: int | str, text: str, *, resets_at: datetime | None = None) -> None:
        super().__init__(code, text)
        self.resets_at = resets_at


class ShareUsedUp(LimitReached):
    """Our share of the account's rate limit is used up, so the call was not made."""


class OutcomeUnknown(CallFailed):
    """The request was sent, and no readable answer came back. It may have been carried out."""


class Permanent(CallFailed):
    """The call can never work for this member as it is."""


class ScanExpired(Permanent):
    """Lytics no longer knows where a scan stopped. The audience still exists."""


class UnknownList(CallFailed):
    """Sailthru does not know the list, or no longer knows it."""


class CredentialsRefused(CallFailed):
    """Sailthru refuses the key, the secret or our IP address. No call of this account works until that is corrected."""


class StoreUnavailable(AppError):
    """The database cannot be read or written now. Nothing of the request was stored."""


class BadOrder(AppError):
    """A request to our own API that can never be carried out, in any state of the service.

    Args:
        reason: a fixed word for scripts.
    """

    def __init__(self, text: str, *, reason: str) -> None:
        super().__init__(text)
        self.reason = reason


class NotFound(AppError):
    """A request to our own API names something that does not exist."""

    reason: str | None = None


class UnknownAudience(NotFound):
    """No audience has the given id, slug or name.

    Args:
        candidates: audiences with similar names, the most similar first; may be empty.
    """

    reason = "unknown_audience"

    def __init__(self, candidates: "Iterable[Audience]" = ()) -> None:
        self.candidates = tuple(candidates)
        similar = f" Similar: {_listed(self.candidates)}." if self.candidates else ""
        super().__init__(
            f"Lytics has no audience with this id, slug or name.{similar}"
            " GET /lytics/audiences lists the audiences that can be exported."
        )


class Conflict(AppError):
    """A request to our own API that does not fit the present state.

    Args:
        reason: a fixed word for scripts; None if there is none.
        choices: parameters that would make the request valid, with their values; None means any value.
    """

    def __init__(self, text: str, *, reason: str | None = None, choices: Mapping[str, object] | None = None) -> None:
        super().__init__(text)
        self.reason = reason
        self.choices = choices


class AmbiguousAudience(Conflict):
    """Several audiences have the given slug or name.

    Args:
        candidates: all of these audiences.
    """

    def __init__(self, candidates: "Iterable[Audience]") -> None:
        self.candidates = tuple(candidates)
        super().__init__(
            f"Several audiences have this slug or name: {_listed(self.candidates)}. Give the id of one.",
            reason="ambiguous_audience",
        )


class NoLyticsToken(Conflict):
    """Lytics cannot be asked, because LYTICS_API_TOKEN is not set."""

    def __init__(self) -> None:
        super().__init__(
            "LYTICS_API_TOKEN is not set, so the service cannot ask Lytics. Make a token in Lytics under Account >"
            " Security > Access Tokens, add it to the settings, and restart the service.",
            reason="no_lytics_token",
        )


class BadFields(BadOrder):
    """Some of the chosen fields cannot be exported.

    Args:
        problems: one sentence for each of these fields.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(" ".join(self.problems), reason="bad_fields")


class BadSettings(AppError):
    """The service cannot start. The text is one sentence that says what to change."""


class ServiceRefused(AppError):
    """The running service refused a command. The text comes from the service.

    Args:
        candidates: objects that the operator may have meant, one line each.
    """

    def __init__(self, text: str, candidates: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.candidates = tuple(candidates)


class ServiceUnreachable(AppError):
    """No running service answered. The text says which address was called and what to check."""


def _listed(audiences: "Sequence[Audience]") -> str:
    shown = [f'"{a.name}" (id {a.id}, slug {a.slug or "none"})' for a in audiences[:MOST_LISTED]]
    return ", ".join(shown) + (f" and {len(audiences) - MOST_LISTED} more" if len(audiences) > MOST_LISTED else "")
