"""What a code means, in words for whoever is asked why a person is (not) on a list.

Codes are what dead letters, retries, pauses and timelines carry: Sailthru's error numbers (all below 100), HTTP
statuses, and words of our own; this is the one place of their sentences. The reasons of rejected webhooks have theirs
in `app.domain.rejection`. No other end's free text is in any of them.

Numbers: https://getstarted.meetmarigold.com/engagebysailthru/Content/developers/api-basics/responses.html
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

from app.domain import rejection
from app.domain.explanation import Explanation

_PERSON = "this person"
_ACCOUNT = "everybody of this Sailthru account"
_LIST = "everybody who waits for this list"
_EVERYBODY = "everybody whose call looks like this one: it is a mistake of this service"

_NOTHING = "Nothing: it is tried again by itself. If it lasts, see Sailthru's status page or ask its support."
_NO_ATTEMPT = "Nothing: it goes on by itself, and no attempt is counted."
_REPORT = "Report it with the code; redrive the dead letter with a version that mends it."
_API_PAGE = "in My Sailthru under Settings > Setup > API & Postbacks. It goes on by itself once Sailthru answers."
_ADDRESS = "Correct the address in Lytics: the person then comes again under the new one. Redrive only if it is right."
_TEXT = "Correct the person's fields in Lytics, which must be whole UTF-8 text, then redrive the dead letter."
_WILLING = (
    "Leave it, unless the person wants the mails again: lift the block in Sailthru, then redrive the dead letter."
)
_NOT_OURS = (
    "This service makes no such call, so look for a proxy or another address in SAILTHRU_BASE_URL; then redrive."
)
_CHECK = "Ask Sailthru's support what the account lacks; once it is mended, redrive the dead letters of this code."

_NUMBERS: Mapping[int, Explanation] = {
    1: Explanation("Sailthru does not take calls by this HTTP method.", _EVERYBODY, _REPORT),
    2: Explanation("Sailthru misses a parameter of the call.", _EVERYBODY, _REPORT),
    3: Explanation(
        "Sailthru does not know the API key.", _ACCOUNT, f"Check SAILTHRU_API_KEY against the key {_API_PAGE}"
    ),
    4: Explanation(
        "This machine's network address is not on the Sailthru account's list of allowed ones.",
        _ACCOUNT,
        f"Add the address {_API_PAGE}",
    ),
    5: Explanation(
        "The signature does not match: API key and secret do not belong together.",
        _ACCOUNT,
        f"Check SAILTHRU_API_SECRET against the secret {_API_PAGE}",
    ),
    6: Explanation("A text of the call is not valid UTF-8 for Sailthru.", _PERSON, _TEXT),
    9: Explanation("Sailthru had an internal error and probably did not save the call.", _PERSON, _NOTHING),
    11: Explanation("Sailthru does not take this address as valid.", _PERSON, _ADDRESS),
    12: Explanation("Sailthru does not know the message that it was asked for.", _EVERYBODY, _NOT_OURS),
    13: Explanation("Sailthru does not know the campaign that it was asked for.", _EVERYBODY, _NOT_OURS),
    14: Explanation("Sailthru does not know the template that it was asked for.", _EVERYBODY, _NOT_OURS),
    15: Explanation(
        "Sailthru does not know the list, also after it was made again.",
        _LIST,
        "Look in Sailthru who deletes the list, or whether the account has all the lists it may have; then redrive.",
    ),
    16: Explanation("Sailthru does not know the site that it was asked for.", _EVERYBODY, _NOT_OURS),
    17: Explanation("Sailthru could not log somebody in.", _EVERYBODY, _NOT_OURS),
    18: Explanation(
        "Sailthru can't read a time in the call.",
        _PERSON,
        "Correct the person's date fields in Lytics, or leave them out of the export's fields; then redrive.",
    ),
    21: Explanation("The Sailthru account is not approved to send e-mail yet.", _ACCOUNT, _CHECK),
    22: Explanation("The Sailthru account's contract does not include this call.", _ACCOUNT, _CHECK),
    32: Explanation("The person has opted out of all mails of this Sailthru account.", _PERSON, _WILLING),
    33: Explanation("The person has opted out of the mails of a template.", _PERSON, _WILLING),
    34: Explanation("Sailthru may not e-mail this person.", _PERSON, _WILLING),
    35: Explanation("Sailthru knows that mails to this address bounce.", _PERSON, _ADDRESS),
    36: Explanation("The sender's address is not verified in the Sailthru account.", _ACCOUNT, _CHECK),
    37: Explanation("The person takes basic mails only, such as receipts.", _PERSON, _WILLING),
    41: Explanation("Sailthru can't delete what has been sent already.", _EVERYBODY, _NOT_OURS),
    42: Explanation("A field of the person is not valid UTF-8 for Sailthru.", _PERSON, _TEXT),
    43: Explanation("Sailthru's limit of calls for this minute is used up.", _ACCOUNT, _NO_ATTEMPT),
    99: Explanation(
        "Sailthru refused the call with 99, its number for everything else; mostly it does not take the address or a"
        " field's name as valid.",
        _PERSON,
        "Check the address in Lytics, and that no field's name is longer than 32 characters; then redrive.",
    ),
    400: Explanation("Sailthru refused the call as badly formed (HTTP 400).", _PERSON, _REPORT),
    401: Explanation(
        "Sailthru refused the credentials (HTTP 401).", _ACCOUNT, f"Compare API key and secret with those {_API_PAGE}"
    ),
    403: Explanation(
        "Sailthru understood the call and refused it (HTTP 403).",
        _PERSON,
        "If others fail with it too, check the key's rights to user and list with Sailthru's support; then redrive.",
    ),
    404: Explanation(
        "Nothing answers at the address that was called (HTTP 404).",
        _ACCOUNT,
        "Check SAILTHRU_BASE_URL and what stands between this machine and Sailthru; then redrive.",
    ),
    405: Explanation("The call's HTTP method is not taken at this address (HTTP 405).", _ACCOUNT, _NOT_OURS),
    408: Explanation("Sailthru waited too long for the call (HTTP 408).", _PERSON, _REPORT),
    409: Explanation(
        "The call conflicts with a rule of the Sailthru account (HTTP 409).",
        _PERSON,
        "Look at the person's profile in Sailthru, for example whether two profiles share a key; then redrive.",
    ),
    413: Explanation(
        "The call is too large for Sailthru (HTTP 413).",
        _PERSON,
        "Leave long fields out of the export, or shorten them in Lytics; then redrive.",
    ),
    429: Explanation("Sailthru's limit of calls for this minute is used up (HTTP 429).", _ACCOUNT, _NO_ATTEMPT),
    500: Explanation("Sailthru had an internal error (HTTP 500).", _PERSON, _NOTHING),
    502: Explanation("Sailthru's front could not reach what is behind it (HTTP 502).", _ACCOUNT, _NOTHING),
    503: Explanation("Sailthru is not available (HTTP 503).", _ACCOUNT, _NOTHING),
    504: Explanation("Sailthru's front got no answer in time from what is behind it (HTTP 504).", _ACCOUNT, _NOTHING),
}

_WORDS: Mapping[str, Explanation] = {
    "ok": Explanation("Sailthru confirmed all that it was told.", _PERSON, "Nothing: it is done."),
    "retry_window_over": Explanation(
        "Every attempt failed until the retry window was over (RETRY_WINDOW_HOURS), so the change was given up.",
        _PERSON,
        "See in the person's timeline how the attempts ended, mend that, then redrive the dead letter.",
    ),
    "over_budget": Explanation(
        "Our share of Sailthru's limit for this minute is used up, so the call was not made.", _ACCOUNT, _NO_ATTEMPT
    ),
    "refused": Explanation(
        "No connection could be made; nothing was sent.",
        _ACCOUNT,
        "It is tried again by itself. If it lasts, check this machine's way out: name server, firewall, proxy.",
    ),
    "unknown_host": Explanation(
        "The name of the host could not be looked up; nothing was sent.",
        _ACCOUNT,
        "It is tried again by itself. If it lasts, check SAILTHRU_BASE_URL and this machine's name server.",
    ),
    "no_tls": Explanation(
        "No https that can be trusted was spoken at the other end; nothing was sent.",
        _ACCOUNT,
        "It is tried again by itself. If it lasts, check SAILTHRU_BASE_URL, and whether something on the way puts its"
        " own certificate in place.",
    ),
    "unreachable": Explanation(
        "The other end could not be reached in time; nothing was sent.",
        _ACCOUNT,
        "It is tried again by itself. If it lasts, check this machine's way out: name server, firewall, proxy.",
    ),
    "timeout": Explanation(
        "No answer came in time (SAILTHRU_TIMEOUT_SECONDS); the call may have been carried out.",
        _PERSON,
        "Nothing: Sailthru is asked which lists the person is on before anything is told again.",
    ),
    "reset": Explanation(
        "The connection broke before the answer came; the call may have been carried out.",
        _PERSON,
        "Nothing: Sailthru is asked which lists the person is on before anything is told again.",
    ),
    "unreadable": Explanation(
        "The answer is not what it should be: an error page, or something between this machine and Sailthru.",
        _ACCOUNT,
        "It is tried again by itself. If it lasts, check SAILTHRU_BASE_URL and any proxy on the way.",
    ),
    "redirected": Explanation(
        "The answer was a redirect, which is never followed, since it could lead the secret elsewhere.",
        _ACCOUNT,
        "Set SAILTHRU_BASE_URL to the API's own address, https://api.sailthru.com. It goes on by itself.",
    ),
    "unnumbered": Explanation(
        "Sailthru refused the call with an error that has no number.",
        _PERSON,
        "Check the person's address and fields, then redrive. If others fail with it too, ask Sailthru's support.",
    ),
    "unencodable": Explanation(
        "A field holds a value that can't be sent, such as half of an emoji or a number that is none.",
        _PERSON,
        "Correct the person's fields in Lytics, or leave the field out of the export's fields; then redrive.",
    ),
    "scan_expired": Explanation(
        "Lytics does not know any more how far the scan of an audience had come.",
        "a backfill",
        "Start the backfill again: whoever was brought over already is not told a second time.",
    ),
    "user_not_found": Explanation(
        "Sailthru has no profile of this person where there should be one.",
        _PERSON,
        "Look whether somebody deletes profiles in Sailthru, then redrive the dead letter.",
    ),
}

EXPLANATIONS: Mapping[str, Explanation] = MappingProxyType(
    {
        **{str(number): said for number, said in _NUMBERS.items()},
        **_WORDS,
        **{str(reason): said for reason, said in rejection.EXPLANATIONS.items()},
    }
)
"""
Every code that has an explanation of its own.
"""

_SERVER_STATUS = re.compile(r"5[0-9]{2}")
_SERVER_ERROR = Explanation("Sailthru had an error of its own.", _PERSON, _NOTHING)
_REFUSED = Explanation(
    "Sailthru refused the call with a number that this service does not know.",
    _PERSON,
    "Look the number up in Sailthru's documentation or ask its support; then redrive the dead letter.",
)
_UNKNOWN = Explanation(
    "The call failed for a reason that this service has no words for.",
    _PERSON,
    "See the person's timeline and the log; then redrive the dead letter.",
)


def explain(code: str) -> Explanation:
    """A code in words; never fails, whatever the code."""
    known = EXPLANATIONS.get(code)
    if known is not None:
        return known
    if not (code.isascii() and code.isdigit()):
        return _UNKNOWN
    return _SERVER_ERROR if _SERVER_STATUS.fullmatch(code) else _REFUSED
