"""An address at the end of a path, as in `/members/{email:address}`: whatever a person may be called by."""

from typing import Annotated

from fastapi import Path
from starlette.convertors import PathConvertor, register_url_convertor

from app.lytics.address import usable_address

Email = Annotated[str, Path(min_length=1, max_length=320)]


class AddressConvertor(PathConvertor):
    """Takes all that is left of a path: an address may have slashes before its @ (RFC 5322, section 3.2.3). A server
    sees no difference between `/` and `%2F`.
    """

    # What has a line break is no address, but is to hear so from the route, as all others do.
    regex = "(?s:.+)"


register_url_convertor("address", AddressConvertor())


def known_as(email: str) -> str:
    """The spelling under which an address is known here, however somebody writes it."""
    return usable_address(email) or email.strip().lower()
