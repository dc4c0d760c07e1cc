"""An e-mail address at the end of a path, as in `/members/{email:address}`."""

from typing import Annotated

from fastapi import Path
from starlette.convertors import PathConvertor, register_url_convertor

from app.lytics.address import usable_address

Email = Annotated[str, Path(min_length=1, max_length=320, description="The member's e-mail address.")]


class AddressConvertor(PathConvertor):
    """Matches the rest of a path, including slashes.

    An address may contain slashes before its @ (RFC 5322, section 3.2.3), and the server decodes `%2F` to `/`.
    """

    # The expression matches line breaks too, so that the route answers them like other invalid addresses.
    regex = "(?s:.+)"


register_url_convertor("address", AddressConvertor())


def normalized(email: str) -> str:
    """Return the spelling under which an address is stored."""
    return usable_address(email) or email.strip().lower()
