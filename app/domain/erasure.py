"""Erasure: an address is deleted from every table, and later events for it are recognized by digest and ignored.

The key of the digests is only in the settings, so addresses cannot be guessed from a copy of the database.
"""

import hmac
from dataclasses import dataclass

from app.domain.counts import Tally
from app.domain.membership import Membership, Need


class Digests:
    """Digests of addresses and Lytics ids: HMAC-SHA256 in hexadecimal.

    Args:
        key: a secret. With another key, erased addresses are no longer recognized.
    """

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    @property
    def key_id(self) -> str:
        """Identifies the key without revealing it."""
        return self._digest("key", "")[:16]

    def of_address(self, address: str) -> str:
        """Return the digest of a normalized address."""
        return self._digest("address", address)

    def of_user(self, lytics_id: str) -> str:
        return self._digest("lytics_id", lytics_id)

    def _digest(self, kind: str, value: str) -> str:
        # A lone surrogate is not a valid address, but must not raise an error.
        return hmac.digest(self._key, f"{kind}:{value}".encode(errors="surrogatepass"), "sha256").hex()


@dataclass(frozen=True, slots=True)
class Erased:
    """State of an erasure.

    Args:
        was_known: the address had a member when it was first erased.
        leaving: names of the lists that the member still has to leave.
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
        leaves: True if the member must leave the list, unless it is confirmed *out*. If no join was ever sent,
            Sailthru is read first.
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
    """Accept changes again for a membership whose erasure has not ended. Only later changes are counted."""
    if membership.erasure is not None:
        membership.erasure, membership.confirmed_revision = None, membership.revision
