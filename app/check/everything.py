"""Runs all checks concurrently. No check changes anything."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

from app.check.findings import SETTINGS, Finding, Mark
from app.check.lytics import check_lytics
from app.check.sailthru import Names, check_sailthru
from app.check.store import check_store
from app.domain.errors import BadSettings
from app.sailthru.protocol import Credentials
from app.settings import DEFAULT_ACCOUNT, Settings


async def check(load: Callable[[], Settings]) -> list[Finding]:
    """Return the findings of all checks. If `load` fails, its error is the only finding."""
    try:
        settings = load()
    except BadSettings as error:
        return [Finding(SETTINGS, Mark.FAILED, str(error))]
    key, token = settings.erasure_key, settings.lytics_api_token
    timeout = timedelta(seconds=settings.sailthru_timeout_seconds)
    checks = [
        check_store(settings.database_url, None if key is None else key.get_secret_value()),
        *(
            check_sailthru(
                label,
                Credentials(account.api_key, account.api_secret, account.base_url),
                _names(label, settings),
                timeout,
            )
            for label, account in settings.accounts().items()
        ),
        check_lytics(None if token is None else token.get_secret_value(), settings.lytics_base_url),
    ]
    return [_check_settings(settings), *await asyncio.gather(*checks)]


def _check_settings(settings: Settings) -> Finding:
    try:
        settings.require_for_serving()
    except BadSettings as error:
        return Finding(SETTINGS, Mark.FAILED, str(error))
    return Finding(SETTINGS, Mark.OK, "All required settings are present.")


def _names(label: str, settings: Settings) -> Names:
    if label == DEFAULT_ACCOUNT and settings.sailthru_api_key is not None:
        return Names("SAILTHRU_API_KEY", "SAILTHRU_API_SECRET", "SAILTHRU_BASE_URL")
    where = f"of '{label}' in SAILTHRU_AUTHORIZATIONS"
    return Names(f"api_key {where}", f"api_secret {where}", f"base_url {where}")
