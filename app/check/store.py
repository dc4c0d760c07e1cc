"""
Checks the database that DATABASE_URL names, without changing anything in it or beside it.
"""

import asyncio

from app.check.findings import SETTINGS, Finding, Mark
from app.domain.erasure import Digests
from app.domain.errors import BadSettings
from app.store.inspection import Inspection, UnusableStore, inspect

STORE = "store"


async def check_store(url: str, erasure_key: str | None) -> Finding:
    """
    How the database stands. That a service runs with it is no fault.
    """
    digests = None if erasure_key is None else Digests(erasure_key)
    try:
        found = await asyncio.to_thread(inspect, url, digests)
    except UnusableStore as error:
        return Finding(STORE, Mark.FAILED, error.happened, error.next_step)
    except BadSettings as error:
        return Finding(SETTINGS, Mark.FAILED, str(error))
    if found.not_kept_out:
        people = f"People who were erased and are not kept out: {found.not_kept_out}."
        if digests is None:
            return Finding(STORE, Mark.FAILED, people, "Set ERASURE_KEY to the key that they were erased with.")
        return Finding(STORE, Mark.WARNING, people, "Put their former ERASURE_KEY back, or erase them again.")
    if not found.has_folder:
        happened = f"Neither {found.path} nor its folder is there yet; the first start makes both."
        return Finding(STORE, Mark.WARNING, happened, "If there should be a database already, correct DATABASE_URL.")
    return Finding(STORE, Mark.OK, _standing(found))


def _standing(found: Inspection) -> str:
    if found.is_in_use:
        return f"The running service holds {found.path}."
    if found.revision is None:
        return f"{found.path} is not there yet; the first start makes it."
    if found.missing:
        return f"{found.path} is of an older version; the next start copies it, and brings it up to date."
    return f"{found.path} can be used, and is up to date."
