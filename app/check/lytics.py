"""Checks the Lytics token and its right to read audiences."""

from datetime import timedelta

from app.check.findings import Finding, Mark
from app.check.unanswered import explain_failure
from app.domain.errors import AppError, CredentialsRefused, LimitReached, NotFound
from app.lytics.client import LyticsClient

LYTICS = "Lytics"
# No audience has this slug, so NotFound is the expected answer.
UNUSED_SLUG = "asked_for_by_lytics_sailthru_check"
TIMEOUT = timedelta(seconds=15)


async def check_lytics(token: str | None, base_url: str) -> Finding:
    if token is None:
        return Finding(
            LYTICS,
            Mark.WARNING,
            "No token is set, so the names of audiences can't be read.",
            "Set LYTICS_API_TOKEN, or name each export by hand.",
        )
    async with LyticsClient(token, base_url, timeout=TIMEOUT) as client:
        try:
            await client.audience(UNUSED_SLUG)
        except NotFound:
            pass
        except LimitReached as error:
            return Finding(LYTICS, Mark.WARNING, str(error), "The token is right. Try again in a minute.")
        except CredentialsRefused as error:
            return Finding(LYTICS, Mark.FAILED, str(error), "Then correct LYTICS_API_TOKEN.")
        except AppError as error:
            happened, next_step = explain_failure(error, base_url=base_url, setting="LYTICS_BASE_URL", timeout=TIMEOUT)
            return Finding(LYTICS, Mark.FAILED, happened, next_step)
    return Finding(LYTICS, Mark.OK, "Token accepted; audiences can be read.")
