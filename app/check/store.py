"""Checks the database that DATABASE_URL names, without changing it."""

import asyncio

from app.check.findings import SETTINGS, Finding, Mark
from app.domain.erasure import Digests
from app.domain.errors import BadSettings
from app.store.moving.inspection import Inspection, UnusableStore, inspect, is_file
from app.store.moving.server_inspection import ServerInspection, inspect_server

STORE = "store"


async def check_store(url: str, erasure_key: str | None) -> Finding:
    """Check the database. It may be in use by a running service."""
    digests = None if erasure_key is None else Digests(erasure_key)
    try:
        if is_file(url):
            return _file_finding(await asyncio.to_thread(inspect, url, digests), digests)
        return _server_finding(await inspect_server(url, digests), digests)
    except UnusableStore as error:
        return Finding(STORE, Mark.FAILED, error.happened, error.next_step)
    except BadSettings as error:
        return Finding(SETTINGS, Mark.FAILED, str(error))


def _file_finding(found: Inspection, digests: Digests | None) -> Finding:
    if found.ineffective_erasures:
        return _erasure_finding(found.ineffective_erasures, digests)
    if not found.has_folder:
        happened = f"{found.path} and its folder do not exist yet; the first start creates both."
        return Finding(STORE, Mark.WARNING, happened, "If you expected a database there, correct DATABASE_URL.")
    return Finding(STORE, Mark.OK, _file_state(found))


def _server_finding(found: ServerInspection, digests: Digests | None) -> Finding:
    if found.is_copy_unfinished:
        happened = f"A copy into {found.name} is not finished, so the service can't start with it."
        return Finding(STORE, Mark.FAILED, happened, "Run the same copy command again.")
    if found.ineffective_erasures:
        return _erasure_finding(found.ineffective_erasures, digests)
    return Finding(STORE, Mark.OK, _server_state(found))


def _erasure_finding(count: int, digests: Digests | None) -> Finding:
    happened = f"Erased people whose new events are not ignored: {count}."
    if digests is None:
        return Finding(STORE, Mark.FAILED, happened, "Set ERASURE_KEY to the key that was used to erase them.")
    return Finding(STORE, Mark.WARNING, happened, "Restore the former ERASURE_KEY, or erase these people again.")


def _file_state(found: Inspection) -> str:
    if found.is_in_use:
        return f"The running service uses {found.path}."
    if found.revision is None:
        return f"{found.path} does not exist yet; the first start creates it."
    if found.missing:
        return f"{found.path} has an older version; the next start backs it up and migrates it."
    return f"{found.path} is usable and up to date."


def _server_state(found: ServerInspection) -> str:
    if found.revision is None:
        return f"{found.name} is empty; the first start creates its tables."
    running = f" Running replicas: {found.replicas}." if found.replicas else ""
    if found.missing:
        return f"{found.name} has an older version; the next start migrates it.{running}"
    return f"{found.name} is usable and up to date.{running}"
