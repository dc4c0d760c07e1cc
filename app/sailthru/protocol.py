"""Signs and encodes calls to Sailthru, and reads rate-limit headers. No I/O.

https://getstarted.meetmarigold.com/engagebysailthru/Content/developers/api-basics/technical.html
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

DEFAULT_BASE_URL = "https://api.sailthru.com"

_WHOLE_NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)


@dataclass(frozen=True)
class Credentials:
    """Key, secret and API address of one Sailthru account. Key and secret stay out of its `repr`."""

    api_key: str = field(repr=False)
    api_secret: str = field(repr=False)
    base_url: str = DEFAULT_BASE_URL


@dataclass(frozen=True, slots=True)
class RateLimit:
    """The rate limit of an account, endpoint and method in this calendar minute, as one answer reports it.

    Args:
        limit: calls allowed in the minute, 1 or more.
        remaining: calls left, 0 to `limit`.
        resets_at: when the next minute begins by Sailthru's clock. The caller decides how far to trust it.
    """

    limit: int
    remaining: int
    resets_at: datetime


def signature(secret: str, params: object) -> str:
    """Return the lower-case hex MD5 of the secret and all leaf values of `params`, sorted by code point.

    Names do not count. Containers are walked to any depth, duplicate values stay, and other values are converted by
    `str`.
    """
    text = secret + "".join(sorted(_leaves(params)))
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def encode(credentials: Credentials, payload: Mapping[str, object]) -> dict[str, str]:
    """Return the four form (or query) fields of a call, not yet URL-encoded. The signature covers the exact JSON text.

    Raises:
        ValueError: JSON or UTF-8 cannot represent a value (NaN, Infinity, half a surrogate pair). The message does not
            quote it.
    """
    try:
        text = json.dumps(dict(payload), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        fields = {"api_key": credentials.api_key, "format": "json", "json": text}
        return fields | {"sig": signature(credentials.api_secret, fields)}
    except ValueError:
        # Without the cause: a UnicodeEncodeError carries the whole text.
        raise ValueError("The call holds a value that JSON or UTF-8 cannot represent, such as NaN.") from None


def read_rate_limit(headers: Mapping[str, str]) -> RateLimit | None:
    """Return the rate limit of the three `X-Rate-Limit-*` headers; None if one is missing or invalid.

    Errors carry these headers too. `headers` must ignore case, as `httpx.Headers` does.
    """
    numbers = []
    for name in ("Limit", "Remaining", "Reset"):
        value = headers.get(f"X-Rate-Limit-{name}", "").strip()
        if not _WHOLE_NUMBER.fullmatch(value):
            return None
        numbers.append(int(value))
    limit, remaining, reset = numbers
    if limit < 1 or remaining > limit:
        return None
    return RateLimit(limit, remaining, datetime.fromtimestamp(reset, UTC))


def _leaves(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = value.values()
    if isinstance(value, Iterable) and not isinstance(value, str):
        for item in value:
            yield from _leaves(item)
    else:
        yield str(value)
