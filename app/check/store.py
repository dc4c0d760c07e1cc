"""Checks the database that DATABASE_URL names, without changing anything in it or beside it."""

import asyncio

from app.check.findings import SETTINGS, Finding, Mark
from app.domain.erasure import Digests
from app.domain.errors import BadSettings
from app.store.moving.inspection import Inspection, UnusableStore, inspect, is_file
from app.store.moving.server_inspection import ServerInspection, inspect_server

STORE = "store"


async def check_store(url: str, erasure_key: str | None) -> Finding:
    """How the database stands. That a service runs with it is no fault."""
    digests = None if erasure_key is None else Digests(erasure_key)
    try:
        if is_file(url):
            return _of_file(await asyncio.to_thread(inspect, url, digests), digests)
        return _of_server(await inspect_server(url, digests), digests)
    except UnusableStore as error:
        return Finding(STORE, Mark.FAILED, error.happened, error.next_step)
    except BadSettings as error:
        return Finding(SETTINGS, Mark.FAILED, str(error))


def _of_file(found: Inspection, digests: Digests | None) -> Finding:
    if found.not_kept_out:
        return _not_kept_out(found.not_kept_out, digests)
    if not found.has_folder:
        happened = f"Neither {found.path} nor its folder is there yet; the first start makes both."
        return Finding(STORE, Mark.WARNING, happened, "If there should be a database already, correct DATABASE_URL.")
    return Finding(STORE, Mark.OK, _standing_of_file(found))


def _of_server(found: ServerInspection, digests: Digests | None) -> Finding:
    if found.is_copy_unfinished:
        happened = f"A copy into {found.name} is not finished, so the service does not start on it."
        return Finding(STORE, Mark.FAILED, happened, "Run the same copy command again.")
    if found.not_kept_out:
        return _not_kept_out(found.not_kept_out, digests)
    return Finding(STORE, Mark.OK, _standing_of_server(found))


def _not_kept_out(many: int, digests: Digests | None) -> Finding:
    people = f"People who were erased and are not kept out: {many}."
    if digests is None:
        return Finding(STORE, Mark.FAILED, people, "Set ERASURE_KEY to the key that they were erased with.")
    return Finding(STORE, Mark.WARNING, people, "Put their former ERASURE_KEY back, or erase them again.")


def _standing_of_file(found: Inspection) -> str:
    if found.is_in_use:
        return f"The running service holds {found.path}."
    if found.revision is None:
        return f"{found.path} is not there yet; the first start makes it."
    if found.missing:
        return f"{found.path} is of an older version; the next start copies it, and brings it up to date."
    return f"{found.path} can be used, and is up to date."


def _standing_of_server(found: ServerInspection) -> str:
    if found.revision is None:
        return f"{found.name} holds nothing yet; the first start makes its tables."
    running = f" Replicas that run on it: {found.replicas}." if found.replicas else ""
    if found.missing:
        return f"{found.name} is of an older version; the next start brings it up to date.{running}"
    return f"{found.name} can be used, and is up to date.{running}"
