"""An e-mail address at the end of a path, as in `/members/{email:address}`."""

from typing import Annotated

from fastapi import Path
from starlette.convertors import PathConvertor, register_url_convertor

from app.lytics.address import usable_address

Email = Annotated[str, Path(min_length=1, max_length=320, description="The member's e-mail address.")]


class AddressConvertor(PathConvertor):
    """Matches the rest of a path: an address may have slashes before its @ (RFC 5322, section 3.2.3). The server cannot
    tell `/` from `%2F`.
    """

    # Also matches line breaks. No address has one, but the route should answer that, as for other invalid addresses.
    regex = "(?s:.+)"


register_url_convertor("address", AddressConvertor())


def normalized(email: str) -> str:
    """Return the spelling under which the store keeps an address."""
    return usable_address(email) or email.strip().lower()
