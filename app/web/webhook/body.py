"""Reads the body of a webhook within limits of size and time."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from starlette.types import Receive

from app.domain.errors import RejectedWebhook
from app.domain.rejection import Reason

MAX_BODY_BYTES = 16 * 1024 * 1024
BODY_TIMEOUT = timedelta(seconds=10)
BEGINNING_BYTES = 8192


class RefusedBody(RejectedWebhook):
    """The body was too large, too slow or cut off.

    Args:
        beginning: the first bytes of a body that is too large.
        body_bytes: the number of bytes that were read.
    """

    def __init__(self, reason: Reason, happened: str = "", *, beginning: bytes = b"", body_bytes: int = 0) -> None:
        super().__init__(reason, happened)
        self.beginning = beginning
        self.body_bytes = body_bytes


async def read_body(receive: Receive, *, max_bytes: int, timeout: timedelta) -> bytes:  # noqa: ASYNC109 - it limits the whole read
    """Return the whole body. The size is measured during the read, because Content-Length may be missing or wrong.

    Raises:
        RefusedBody: `too_large`, `too_slow` or `cut_off`. The rest of the body is not read.
    """
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout.total_seconds()):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise RefusedBody(Reason.CUT_OFF)
                part = message.get("body", b"")
                parts.append(part)
                size += len(part)
                if size > max_bytes:
                    raise RefusedBody(
                        Reason.TOO_LARGE,
                        f"The body has more than {max_bytes:,} bytes.",
                        beginning=_beginning(parts),
                        body_bytes=size,
                    )
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        happened = f"The body took more than {timeout.total_seconds():g} seconds to arrive."
        raise RefusedBody(Reason.TOO_SLOW, happened) from None


def _beginning(parts: Sequence[bytes]) -> bytes:
    beginning = b""
    for part in parts:
        beginning += part[: BEGINNING_BYTES - len(beginning)]
        if len(beginning) == BEGINNING_BYTES:
            break
    return beginning
