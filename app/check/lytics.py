"""Checks the Lytics account: its token, and the right to read audiences."""

from datetime import timedelta

from app.check.findings import Finding, Mark
from app.check.unanswered import why_unanswered
from app.domain.errors import AppError, CredentialsRefused, LimitReached, NotFound
from app.lytics.client import LyticsClient

LYTICS = "Lytics"
# Nobody's slug: that there is no such audience is the right answer.
AUDIENCE = "asked_for_by_lytics_sailthru_check"
TIMEOUT = timedelta(seconds=15)


async def check_lytics(token: str | None, base_url: str) -> Finding:
    """How the account of a token stands."""
    if token is None:
        return Finding(
            LYTICS,
            Mark.WARNING,
            "There is no token to ask it for the names of audiences.",
            "Set LYTICS_API_TOKEN, or name each export by hand.",
        )
    async with LyticsClient(token, base_url, timeout=TIMEOUT) as client:
        try:
            await client.audience(AUDIENCE)
        except NotFound:
            pass
        except LimitReached as error:
            return Finding(LYTICS, Mark.WARNING, str(error), "The token is right. Try again in a minute.")
        except CredentialsRefused as error:
            return Finding(LYTICS, Mark.FAILED, str(error), "The setting is LYTICS_API_TOKEN.")
        except AppError as error:
            happened, next_step = why_unanswered(error, base_url=base_url, setting="LYTICS_BASE_URL", within=TIMEOUT)
            return Finding(LYTICS, Mark.FAILED, happened, next_step)
    return Finding(LYTICS, Mark.OK, "It takes the token, and lets audiences be read.")
