"""Validates e-mail addresses, and gives each the one spelling that identifies its member."""

import re

from email_validator import validate_email

LONGEST_ADDRESS = 254
_ATOM = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
# ASCII addresses that are certainly valid, because the whole domain is as short as one label may be. Matching is 50
# times as fast as the validator.
_PLAIN = re.compile(
    rf"(?=[^@]{{1,64}}@.{{4,63}}\Z){_ATOM}(?:\.{_ATOM})*@(?:[a-z0-9]+(?:-[a-z0-9]+)*\.)+[a-z]{{2,63}}",
    re.ASCII,
)


def usable_address(value: object) -> str | None:
    """Return the address in lower case without surrounding space, or None if there is no usable one. Never raises.

    A list gives its first usable value. Only the syntax is checked (RFC 5321, 6531). Quoted local parts and IP
    addresses as domains are refused. An international domain is written in ASCII (`xn--`), so that both spellings
    are one member.
    """
    if isinstance(value, str):
        return _normalized(value)
    if isinstance(value, list | tuple):
        texts = (item for item in value if isinstance(item, str))
        return next((address for text in texts if (address := _normalized(text))), None)
    return None


def _normalized(text: str) -> str | None:
    text = text.strip()
    if len(text) > LONGEST_ADDRESS:
        return None
    text = text.lower()
    if _PLAIN.fullmatch(text):
        return text
    try:
        validated = validate_email(
            text,
            strict=True,
            check_deliverability=False,
            allow_quoted_local=False,
            allow_domain_literal=False,
            allow_display_name=False,
        )
    except ValueError:
        # The validator raises its own error, and also Unicode errors.
        return None
    address = f"{validated.local_part}@{validated.ascii_domain}".lower()
    return address if len(address) <= LONGEST_ADDRESS else None
