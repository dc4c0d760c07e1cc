"""Looks at an SQLite file and changes nothing: could the service open it, write to it, and does it know its tables? For
PostgreSQL see `app.store.moving.server_inspection`.
"""

import fcntl
import os
import tempfile
from dataclasses import dataclass
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path

from sqlalchemy import inspect as tables_of
from sqlalchemy.exc import DatabaseError

from app.domain.erasure import Digests
from app.domain.errors import BadSettings, StoreUnavailable
from app.store.database.sqlite import lock_file
from app.store.database.url import parse_url, sqlite_path
from app.store.erasure.erasures import count_ineffective
from app.store.migrate import revision_of, steps_after, works_since
from app.store.moving.target import engine_to_look

TRIAL_BYTES = 1024 * 1024
_FULL = frozenset({ENOSPC, EDQUOT, EFBIG})


class UnusableStore(StoreUnavailable):
    """The service could not work with this database.

    Args:
        happened: what is wrong with it, and where.
        next_step: what to do now.
    """

    def __init__(self, happened: str, next_step: str) -> None:
        super().__init__(f"{happened} {next_step}")
        self.happened = happened
        self.next_step = next_step


@dataclass(frozen=True, slots=True)
class Inspection:
    """A database that the service can work with.

    Args:
        path: the file.
        has_folder: false if the first start has to make the folder.
        is_in_use: another process holds the file, which is the running service.
        revision: the step that was applied last; None if there is no database yet.
        missing: the steps that the next start applies.
        not_kept_out: people who were erased with another key than the one that is set.
    """

    path: Path
    has_folder: bool
    is_in_use: bool
    revision: str | None
    missing: tuple[str, ...]
    not_kept_out: int


def is_file(url: str) -> bool:
    """Whether `DATABASE_URL` names an SQLite file, and no server.

    Raises:
        BadSettings: it can't be understood.
    """
    return parse_url(url).get_backend_name() == "sqlite"


def inspect(url: str, digests: Digests | None) -> Inspection:
    """How the database of `DATABASE_URL` stands. No file is made or written: what is tried out has no name, and what is
    read is read with the database opened for nothing else. (SQLite may set up anew the -shm file of a service that
    was killed; it holds no data.)

    Args:
        digests: made with the erasure key, if one is set.

    Raises:
        UnusableStore: what is wrong with it.
        BadSettings: the URL can't be understood.
    """
    path = sqlite_path(parse_url(url))
    try:
        _try_to_write(path)
        is_in_use = _is_held(lock_file(path))
        is_there = path.exists()
        has_folder = path.parent.exists()
    except OSError as error:
        raise _unwritable(path.parent, error) from error
    revision, missing, not_kept_out = _read(path, digests, is_in_use=is_in_use) if is_there else (None, (), 0)
    return Inspection(path, has_folder, is_in_use, revision, missing, not_kept_out)


def _try_to_write(path: Path) -> None:
    folder = next(each for each in path.parents if each.exists())
    try:
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(bytes(TRIAL_BYTES))
            trial.flush()
            os.fsync(trial.fileno())
    except OSError as error:
        raise _unwritable(folder, error) from error
    # Files of another user, left by a command that ran as root, are as bad as a folder of theirs.
    for file in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm")), lock_file(path)):
        try:
            os.close(os.open(file, os.O_RDWR))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _unwritable(file, error) from error


def _unwritable(where: Path, error: OSError) -> UnusableStore:
    if error.errno in _FULL:
        return UnusableStore(
            f"There is no room left at {where} ({error.strerror}).", "Make room, or move the file: DATABASE_URL."
        )
    return UnusableStore(
        f"{where} can't be written ({error.strerror}).",
        "Give the service's user the right to, or name another file in DATABASE_URL.",
    )


def _is_held(lock: Path) -> bool:
    try:
        file = os.open(lock, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _read(path: Path, digests: Digests | None, *, is_in_use: bool) -> tuple[str | None, tuple[str, ...], int]:
    engine = engine_to_look(path, stands_still=not is_in_use)
    try:
        with engine.connect() as connection:
            revision = revision_of(connection)
            if revision is None and tables_of(connection).get_table_names():
                raise UnusableStore(
                    f"{path} holds the tables of another program.", "Name a file of its own in DATABASE_URL."
                )
            missing = tuple(steps_after(revision, works_since(connection)))
            return revision, missing, 0 if missing else count_ineffective(connection, digests)
    except BadSettings as error:
        raise UnusableStore(
            f"{path} was used by a newer version of this program.",
            "Install that version, or name another file in DATABASE_URL.",
        ) from error
    except DatabaseError as error:
        raise UnusableStore(
            f"{path} can't be read as a database ({error.orig}).",
            "Put a backup in its place, or name another file in DATABASE_URL.",
        ) from error
