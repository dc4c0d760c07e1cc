"""Erasure: a person goes from every table, and is kept out from then on by digests that name nobody.

The digests are made with a key that stands in the settings alone: whoever has only the database can't try addresses.
"""

import hmac
from dataclasses import dataclass

from app.domain.counts import Tally
from app.domain.membership import Membership, Need


class Digests:
    """Names of erased people that only the holder of the key can make: HMAC-SHA256 in hexadecimal digits.

    Args:
        key: a secret that has to be kept as long as anybody is to stay erased.
    """

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    @property
    def key_id(self) -> str:
        """Tells one key from another, and nothing more."""
        return self._of("key", "")[:16]

    def of_address(self, address: str) -> str:
        """The digest of an address in the one spelling under which it is known here."""
        return self._of("address", address)

    def of_user(self, lytics_id: str) -> str:
        """The digest of a Lytics user's id."""
        return self._of("lytics_id", lytics_id)

    def _of(self, kind: str, value: str) -> str:
        # A lone half of an emoji can't be an address, but must not be an error either.
        return hmac.digest(self._key, f"{kind}:{value}".encode(errors="surrogatepass"), "sha256").hex()


@dataclass(frozen=True, slots=True)
class Erased:
    """How an erasure stands.

    Args:
        was_known: somebody of this address was known when it was first erased.
        leaving: the lists that the person is still being taken off.
        due_accounts: the accounts that now have somebody to call for.
    """

    was_known: bool
    leaving: tuple[str, ...]
    due_accounts: frozenset[str]


def erase(membership: Membership, erasure: str, tally: Tally, *, leaves: bool) -> None:
    """Leave nothing of a person in a membership but what its last call needs; what was not told yet counts as erased.

    The revisions from here on are counted nowhere. Afterwards it is pending only if a list has to be left.

    Args:
        erasure: the digest of the address that was erased.
        leaves: the person is to be taken off the list, if Sailthru may have been told *in*.
    """
    if membership.erasure is None:
        waited = membership.revision - membership.confirmed_revision
        died = membership.dead_code is not None
        tally.pending -= waited
        tally.dead -= died
        tally.erased += waited + died
        tally.members -= membership.desired
        membership.erasure = erasure
        membership.desired, membership.moved, membership.lytics_id = False, None, None
        membership.fields_at_ns, membership.vars, membership.confirmed_vars = None, {}, None
        membership.dead_code = membership.dead_at = membership.first_failed_at = membership.accepted_at = None
        membership.confirmed_revision = membership.revision
    if leaves and not membership.is_pending and membership.need is not Need.NOTHING:
        membership.revision += 1


def take_back(membership: Membership) -> None:
    """Let changes in again where a membership still waits for the end of its erasure: they count from here on."""
    if membership.erasure is not None:
        membership.erasure, membership.confirmed_revision = None, membership.revision
