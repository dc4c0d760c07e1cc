"""Reads a webhook's body as far as it may go: not too large, not too slow, and whole."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from starlette.types import Receive

from app.domain.errors import RejectedWebhook
from app.domain.rejection import Reason

LARGEST_BODY_BYTES = 16 * 1024 * 1024
SLOWEST_BODY = timedelta(seconds=10)
BEGINNING_BYTES = 8192


class RefusedBody(RejectedWebhook):
    """The body did not come whole.

    Args:
        beginning: the first bytes of one that is too large.
        body_bytes: how much of it was read.
    """

    def __init__(self, reason: Reason, happened: str = "", *, beginning: bytes = b"", body_bytes: int = 0) -> None:
        super().__init__(reason, happened)
        self.beginning = beginning
        self.body_bytes = body_bytes


async def read_body(receive: Receive, *, largest_bytes: int, slowest: timedelta) -> bytes:
    """The whole body, counted while it streams in: its announced length may be missing or wrong.

    Raises:
        RefusedBody: `too_large` beyond `largest_bytes`, `too_slow` after longer than `slowest`, or `cut_off`. The rest
            is not read.
    """
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(slowest.total_seconds()):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise RefusedBody(Reason.CUT_OFF)
                part = message.get("body", b"")
                parts.append(part)
                size += len(part)
                if size > largest_bytes:
                    raise RefusedBody(
                        Reason.TOO_LARGE,
                        f"The body has more than {largest_bytes:,} bytes.",
                        beginning=_beginning(parts),
                        body_bytes=size,
                    )
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        happened = f"The body took more than {slowest.total_seconds():g} seconds to arrive."
        raise RefusedBody(Reason.TOO_SLOW, happened) from None


def _beginning(parts: Sequence[bytes]) -> bytes:
    beginning = b""
    for part in parts:
        beginning += part[: BEGINNING_BYTES - len(beginning)]
        if len(beginning) == BEGINNING_BYTES:
            break
    return beginning
