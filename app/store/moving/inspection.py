"""Inspects an SQLite file without changing it: checks that the service can open it, write to it and use its tables."""

import fcntl
import os
import tempfile
from dataclasses import dataclass
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path

from sqlalchemy import inspect as inspect_database
from sqlalchemy.exc import DatabaseError

from app.domain.erasure import Digests
from app.domain.errors import BadSettings, StoreUnavailable
from app.store.database.sqlite import lock_file, read_only_engine
from app.store.database.url import parse_url, sqlite_path
from app.store.erasure.erasures import count_ineffective
from app.store.migrate import revision_of, steps_after, works_since

TRIAL_BYTES = 1024 * 1024
_NO_SPACE = frozenset({ENOSPC, EDQUOT, EFBIG})


class UnusableStore(StoreUnavailable):
    """The service can't work with this database.

    Args:
        happened: the problem and its place, as a sentence.
        next_step: what the operator should do, as a sentence.
    """

    def __init__(self, happened: str, next_step: str) -> None:
        super().__init__(f"{happened} {next_step}")
        self.happened = happened
        self.next_step = next_step


@dataclass(frozen=True, slots=True)
class Inspection:
    """An SQLite database that the service can work with.

    Args:
        path: path of the file.
        has_folder: False if the first start has to create the folder.
        is_in_use: True if another process, such as the running service, holds the file.
        revision: the last migration; None if there is no database yet.
        missing: the migrations that the next start applies.
        ineffective_erasures: number of addresses that were erased with another key than the current one.
    """

    path: Path
    has_folder: bool
    is_in_use: bool
    revision: str | None
    missing: tuple[str, ...]
    ineffective_erasures: int


def is_file(url: str) -> bool:
    """Return whether `DATABASE_URL` names an SQLite file.

    Raises:
        BadSettings: it is not the URL of a database.
    """
    return parse_url(url).get_backend_name() == "sqlite"


def inspect(url: str, digests: Digests | None) -> Inspection:
    """Inspect the SQLite database of `DATABASE_URL`. No file is left behind.

    Args:
        digests: made with the erasure key, if one is set.

    Raises:
        UnusableStore: the service can't work with the database.
        BadSettings: it is not the URL of a database.
    """
    path = sqlite_path(parse_url(url))
    try:
        _try_to_write(path)
        is_in_use = _is_held(lock_file(path))
        exists = path.exists()
        has_folder = path.parent.exists()
    except OSError as error:
        raise _unwritable(path.parent, error) from error
    revision, missing, ineffective_erasures = _read(path, digests, is_in_use=is_in_use) if exists else (None, (), 0)
    return Inspection(path, has_folder, is_in_use, revision, missing, ineffective_erasures)


def _try_to_write(path: Path) -> None:
    folder = next(parent for parent in path.parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(bytes(TRIAL_BYTES))
            trial.flush()
            os.fsync(trial.fileno())
    except OSError as error:
        raise _unwritable(folder, error) from error
    # A command that ran as root may have left files that the service's user can't write.
    for file in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm")), lock_file(path)):
        try:
            os.close(os.open(file, os.O_RDWR))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _unwritable(file, error) from error


def _unwritable(where: Path, error: OSError) -> UnusableStore:
    if error.errno in _NO_SPACE:
        return UnusableStore(
            f"There is no space left at {where} ({error.strerror}).",
            "Free some space, or name another file in DATABASE_URL.",
        )
    return UnusableStore(
        f"{where} can't be written ({error.strerror}).",
        "Let the service's user write there, or name another file in DATABASE_URL.",
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
    engine = read_only_engine(path, is_unused=not is_in_use)
    try:
        with engine.connect() as connection:
            revision = revision_of(connection)
            if revision is None and inspect_database(connection).get_table_names():
                raise UnusableStore(
                    f"{path} holds the tables of another program.",
                    "Name another file in DATABASE_URL.",
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
