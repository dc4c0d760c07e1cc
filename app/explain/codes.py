"""The explanations of all codes, for operators.

Dead letters, retries, open circuit breakers and timelines carry codes. A code is one of Sailthru's error numbers (below
100), an HTTP status, or a word of this service. The reasons of rejected webhooks are in `app.explain.rejections`. No
explanation quotes text of a vendor, because such text may contain an address.

Numbers: https://getstarted.meetmarigold.com/engagebysailthru/Content/developers/api-basics/responses.html
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

from app.domain.explanation import Explanation
from app.explain import rejections

_MEMBER = "this member"
_ACCOUNT = "every member of this Sailthru account"
_LIST = "every pending member of this list"
_SAME_CALL = "every member with a call like this one"

_RETRIED = "Nothing: the service retries. If this continues, see Sailthru's status page or ask its support."
_WAITS = "Nothing: the service continues when the limit resets. No attempt is counted."
_REPORT = "This is a bug in this service. Report it with the code, and redrive the dead letter after an upgrade."
_API_PAGE = (
    "in My Sailthru under Settings > Setup > API & Postbacks. The service continues once Sailthru accepts calls."
)
_ADDRESS = (
    "Correct the address in Lytics. The member is then exported under the new address. Redrive the dead letter only if"
    " the address is right."
)
_TEXT = "Correct the member's fields in Lytics, which must be valid UTF-8 text. Then redrive the dead letter."
_OPTED_OUT = (
    "Nothing, unless the member asks for mail again: then lift the opt-out in Sailthru and redrive the dead letter."
)
_NOT_OURS = (
    "This service makes no such call. Check SAILTHRU_BASE_URL and any proxy on the way. Then redrive the dead letter."
)
_SUPPORT = "Ask Sailthru's support to change the account. Then redrive the dead letters of this code."
_NETWORK = (
    "Nothing: the service retries. If this continues, check this machine's network: name server, firewall, proxy."
)
_READ_FIRST = "Nothing: the service asks Sailthru which lists the member is on, before it repeats the call."

_NUMBERS: Mapping[int, Explanation] = {
    1: Explanation("Sailthru does not accept this HTTP method.", _SAME_CALL, _REPORT),
    2: Explanation("The call lacks a parameter that Sailthru requires.", _SAME_CALL, _REPORT),
    3: Explanation(
        "Sailthru does not know the API key.", _ACCOUNT, f"Check SAILTHRU_API_KEY against the key {_API_PAGE}"
    ),
    4: Explanation(
        "This machine's IP address is not on the list of addresses that the Sailthru account allows.",
        _ACCOUNT,
        f"Add the address {_API_PAGE}",
    ),
    5: Explanation(
        "The signature is wrong: API key and secret do not belong together.",
        _ACCOUNT,
        f"Check SAILTHRU_API_SECRET against the secret {_API_PAGE}",
    ),
    6: Explanation("A text in the call is not valid UTF-8.", _MEMBER, _TEXT),
    9: Explanation("Sailthru had an internal error and probably did not save the change.", _MEMBER, _RETRIED),
    11: Explanation("Sailthru does not accept this e-mail address as valid.", _MEMBER, _ADDRESS),
    12: Explanation("Sailthru does not know the message that the call names.", _SAME_CALL, _NOT_OURS),
    13: Explanation("Sailthru does not know the campaign that the call names.", _SAME_CALL, _NOT_OURS),
    14: Explanation("Sailthru does not know the template that the call names.", _SAME_CALL, _NOT_OURS),
    15: Explanation(
        "Sailthru does not know the list, even after the service created it again.",
        _LIST,
        "Check in Sailthru what deletes the list, and whether the account has reached its number of lists. Then redrive"
        " the dead letters of this code.",
    ),
    16: Explanation("Sailthru does not know the site that the call names.", _SAME_CALL, _NOT_OURS),
    17: Explanation("Sailthru refused a login.", _SAME_CALL, _NOT_OURS),
    18: Explanation(
        "Sailthru cannot read a date in the call.",
        _MEMBER,
        "Correct the member's date fields in Lytics, or remove them from the export's fields. Then redrive the dead"
        " letter.",
    ),
    21: Explanation("The Sailthru account is not approved to send e-mail yet.", _ACCOUNT, _SUPPORT),
    22: Explanation("The contract of the Sailthru account does not include this call.", _ACCOUNT, _SUPPORT),
    32: Explanation("The member has opted out of all mail from this Sailthru account.", _MEMBER, _OPTED_OUT),
    33: Explanation("The member has opted out of the mail of one template.", _MEMBER, _OPTED_OUT),
    34: Explanation("Sailthru may not send mail to this member.", _MEMBER, _OPTED_OUT),
    35: Explanation("Mail to this address bounces, according to Sailthru.", _MEMBER, _ADDRESS),
    36: Explanation("The sender address of the Sailthru account is not verified.", _ACCOUNT, _SUPPORT),
    37: Explanation("The member accepts only basic mail, such as receipts.", _MEMBER, _OPTED_OUT),
    41: Explanation("Sailthru cannot delete what it has already sent.", _SAME_CALL, _NOT_OURS),
    42: Explanation("A field of the member is not valid UTF-8.", _MEMBER, _TEXT),
    43: Explanation("Sailthru's rate limit for this minute is used up.", _ACCOUNT, _WAITS),
    99: Explanation(
        "Sailthru refused the call with 99, its number for all other errors. Usually the address or the name of a field"
        " is not valid.",
        _MEMBER,
        "Check the address in Lytics. Check that no field name is longer than 32 characters. Then redrive the dead"
        " letter.",
    ),
    400: Explanation("Sailthru could not read the call (HTTP 400).", _MEMBER, _REPORT),
    401: Explanation(
        "Sailthru refused the credentials (HTTP 401).", _ACCOUNT, f"Compare API key and secret with those {_API_PAGE}"
    ),
    403: Explanation(
        "Sailthru refused the call (HTTP 403).",
        _MEMBER,
        "If other members fail too, ask Sailthru's support whether the key may use user and list. Then redrive the dead"
        " letter.",
    ),
    404: Explanation(
        "No Sailthru API answers at the configured URL (HTTP 404).",
        _ACCOUNT,
        "Check SAILTHRU_BASE_URL and any proxy between this machine and Sailthru. Then redrive the dead letter.",
    ),
    405: Explanation("This URL does not accept the call's HTTP method (HTTP 405).", _ACCOUNT, _NOT_OURS),
    408: Explanation("Sailthru waited too long for the call (HTTP 408).", _MEMBER, _REPORT),
    409: Explanation(
        "The call conflicts with a rule of the Sailthru account (HTTP 409).",
        _MEMBER,
        "Check the member's profile in Sailthru, for example whether two profiles share a key. Then redrive the dead"
        " letter.",
    ),
    413: Explanation(
        "The call is too large for Sailthru (HTTP 413).",
        _MEMBER,
        "Remove long fields from the export, or shorten them in Lytics. Then redrive the dead letter.",
    ),
    429: Explanation("Sailthru's rate limit for this minute is used up (HTTP 429).", _ACCOUNT, _WAITS),
    500: Explanation("Sailthru had an internal error (HTTP 500).", _MEMBER, _RETRIED),
    502: Explanation("Sailthru's gateway could not reach its own servers (HTTP 502).", _ACCOUNT, _RETRIED),
    503: Explanation("Sailthru is not available (HTTP 503).", _ACCOUNT, _RETRIED),
    504: Explanation("Sailthru's own servers did not answer its gateway in time (HTTP 504).", _ACCOUNT, _RETRIED),
}

_WORDS: Mapping[str, Explanation] = {
    "ok": Explanation("Sailthru confirmed the call.", _MEMBER, "Nothing: the change is delivered."),
    "retry_window_over": Explanation(
        "Every attempt within the retry window (RETRY_WINDOW_HOURS) failed, so the change became a dead letter.",
        _MEMBER,
        "Read in the member's timeline how the attempts ended. Correct the cause, then redrive the dead letter.",
    ),
    "over_budget": Explanation(
        "This service's share of Sailthru's rate limit for this minute is used up, so it did not make the call.",
        _ACCOUNT,
        _WAITS,
    ),
    "refused": Explanation("The connection was refused. Nothing was sent.", _ACCOUNT, _NETWORK),
    "unknown_host": Explanation(
        "The host name could not be resolved. Nothing was sent.",
        _ACCOUNT,
        "Nothing: the service retries. If this continues, check SAILTHRU_BASE_URL and this machine's name server.",
    ),
    "no_tls": Explanation(
        "The server has no trusted TLS certificate. Nothing was sent.",
        _ACCOUNT,
        "Nothing: the service retries. If this continues, check SAILTHRU_BASE_URL, and whether a proxy on the way"
        " replaces the certificate.",
    ),
    "unreachable": Explanation("The server could not be reached in time. Nothing was sent.", _ACCOUNT, _NETWORK),
    "timeout": Explanation(
        "No answer came within SAILTHRU_TIMEOUT_SECONDS. Sailthru may have carried out the call.", _MEMBER, _READ_FIRST
    ),
    "reset": Explanation(
        "The connection broke before the answer came. Sailthru may have carried out the call.", _MEMBER, _READ_FIRST
    ),
    "unreadable": Explanation(
        "The answer is not one of Sailthru's API. It may be an error page, or the answer of a proxy.",
        _ACCOUNT,
        "Nothing: the service retries. If this continues, check SAILTHRU_BASE_URL and any proxy on the way.",
    ),
    "redirected": Explanation(
        "The answer was a redirect. The service never follows one, because that could disclose the secret.",
        _ACCOUNT,
        "Set SAILTHRU_BASE_URL to the address of the API, https://api.sailthru.com. The service then continues.",
    ),
    "unnumbered": Explanation(
        "Sailthru refused the call with an error that has no number.",
        _MEMBER,
        "Check the member's address and fields, then redrive the dead letter. If other members fail too, ask Sailthru's"
        " support.",
    ),
    "unencodable": Explanation(
        "A field holds a value that cannot be sent, such as half of an emoji or an infinite number.",
        _MEMBER,
        "Correct the member's fields in Lytics, or remove the field from the export's fields. Then redrive the dead"
        " letter.",
    ),
    "scan_expired": Explanation(
        "Lytics no longer knows where the scan of the audience stopped.",
        "one backfill",
        "Start the backfill again. Members that are already on the list do not join a second time.",
    ),
    "user_not_found": Explanation(
        "Sailthru has no profile for this member, although the member was on a list.",
        _MEMBER,
        "Check in Sailthru what deletes profiles. Then redrive the dead letter.",
    ),
}

# The codes with their own explanation.
EXPLANATIONS: Mapping[str, Explanation] = MappingProxyType(
    {
        **{str(number): explanation for number, explanation in _NUMBERS.items()},
        **_WORDS,
        **{str(reason): explanation for reason, explanation in rejections.EXPLANATIONS.items()},
    }
)

_SERVER_STATUS = re.compile(r"5[0-9]{2}")
_SERVER_ERROR = Explanation("Sailthru had an error.", _MEMBER, _RETRIED)
_REFUSED = Explanation(
    "Sailthru refused the call with a number that this service does not know.",
    _MEMBER,
    "Find the number in Sailthru's documentation or ask its support. Then redrive the dead letter.",
)
_UNKNOWN = Explanation(
    "The call failed with a code that this version does not know.",
    _MEMBER,
    "Read the member's timeline and the log. Then redrive the dead letter.",
)


def explain(code: str) -> Explanation:
    """Return the explanation of a code. An unknown code gets a general explanation."""
    known = EXPLANATIONS.get(code)
    if known is not None:
        return known
    if not (code.isascii() and code.isdigit()):
        return _UNKNOWN
    return _SERVER_ERROR if _SERVER_STATUS.fullmatch(code) else _REFUSED
