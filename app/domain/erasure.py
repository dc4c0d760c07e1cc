"""Erasure: an address is removed from every table, and digests keep it out from then on.

The digests need a key that is in the settings only, so a copy of the database does not allow addresses to be guessed.
"""

import hmac
from dataclasses import dataclass

from app.domain.counts import Tally
from app.domain.membership import Membership, Need


class Digests:
    """Digests of addresses and Lytics ids: HMAC-SHA256 in hexadecimal.

    Args:
        key: a secret. Erased addresses stay out only as long as it is kept.
    """

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    @property
    def key_id(self) -> str:
        """Identifies the key without revealing it."""
        return self._of("key", "")[:16]

    def of_address(self, address: str) -> str:
        """Return the digest of a normalized address."""
        return self._of("address", address)

    def of_user(self, lytics_id: str) -> str:
        return self._of("lytics_id", lytics_id)

    def _of(self, kind: str, value: str) -> str:
        # A lone surrogate is not a valid address, but must not raise an error.
        return hmac.digest(self._key, f"{kind}:{value}".encode(errors="surrogatepass"), "sha256").hex()


@dataclass(frozen=True, slots=True)
class Erased:
    """State of an erasure.

    Args:
        was_known: the address had a member when it was first erased.
        leaving: names of the lists that the member has yet to leave.
        due_accounts: accounts that now have due members.
    """

    was_known: bool
    leaving: tuple[str, ...]
    due_accounts: frozenset[str]


def erase(membership: Membership, erasure: str, tally: Tally, *, leaves: bool) -> None:
    """Remove everything from a membership except what its last call needs. Pending changes count as erased.

    Later revisions are not counted. Afterwards the membership is pending only if it has to leave its list.

    Args:
        erasure: digest of the erased address.
        leaves: the member leaves the list unless it is confirmed *out*. One that was never sent is read first.
    """
    if membership.erasure is None:
        pending = membership.revision - membership.confirmed_revision
        is_dead = membership.dead_code is not None
        tally.pending -= pending
        tally.dead -= is_dead
        tally.erased += pending + is_dead
        tally.members -= membership.desired
        membership.erasure = erasure
        membership.desired, membership.moved, membership.lytics_id = False, None, None
        membership.fields_at_ns, membership.vars, membership.confirmed_vars = None, {}, None
        membership.dead_code = membership.dead_at = membership.first_failed_at = membership.accepted_at = None
        membership.confirmed_revision = membership.revision
    if leaves and not membership.is_pending and membership.need is not Need.NOTHING:
        membership.revision += 1


def cancel_erasure(membership: Membership) -> None:
    """Take changes again for a membership whose erasure has not ended; they count from here on."""
    if membership.erasure is not None:
        membership.erasure, membership.confirmed_revision = None, membership.revision
