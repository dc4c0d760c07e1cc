"""Lytics' JSON as it is on the wire: its word "segment" for an audience stops here.

Webhooks, default format and CloudEvents: https://www.contentstack.com/docs/lytics/webhooks
Audiences, fields: https://www.contentstack.com/docs/developers/apis/lytics-api/v2, scans: .../lytics-api/v1/segment
"""

import json
from typing import Annotated, Any, NoReturn

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    StringConstraints,
)
from pydantic_core import from_json

from app.domain.values import sayable

LONGEST_NUMBER = 400
LONGEST_COUNT = 15


def parse_json(body: bytes) -> Any:  # noqa: ANN401 - whatever was sent
    """The JSON of a body, also where its texts are not whole Unicode: one broken name must not take a batch along.

    Such texts then hold lone surrogates, for halves of pairs as for bytes that are not UTF-8. Numbers too long for
    Python become infinite.

    Raises:
        ValueError: it is no JSON, or nested deeper than there is stack.
    """
    try:
        return from_json(body, allow_inf_nan=False, cache_strings="keys")
    except ValueError:
        text = body.decode("utf-8-sig", "surrogateescape")
    try:
        return json.loads(text, parse_int=_whole_number, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("This is nested too deep.") from None


def _whole_number(digits: str) -> int | float:
    return int(digits) if len(digits) <= LONGEST_NUMBER else float(digits)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"JSON has no {constant}.")


def _id_text(value: object) -> object:
    """A user id as text: Lytics sends 64-bit numbers as text, since JavaScript would round them; "" stands for none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None if value == "" else value


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class Message(_Wire):
    """One webhook message: in the default format, in the older one without `id` and `meta.timestamp`, or a CloudEvent.

    Args:
        id: of the user; digits, up to 64 bits.
        data: the profile as sent, with `segment_events` among its fields.
        meta: about the message; nothing of it is promised, all of it may be missing, and a CloudEvent has none.
        specversion, time: of a CloudEvent. https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
    """

    id: Annotated[
        Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9]{1,20}$")] | None, BeforeValidator(_id_text)
    ] = None
    # Neither copied nor looked into: names need not be whole Unicode.
    data: InstanceOf[dict[str, Any]]
    meta: Any = None
    specversion: Any = None
    time: Any = None


def _count(value: object) -> object:
    """A count, which v1 may send as text; None where it is none."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= LONGEST_COUNT:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _shown(value: str) -> str:
    """A name or a token as it can be stored, sent and shown."""
    if not value.isprintable():
        raise ValueError("This has characters that can't be shown.")
    return value


Count = Annotated[int | None, BeforeValidator(_count)]
Text = Annotated[str | None, AfterValidator(sayable)]
Id = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=128), AfterValidator(_shown)]
FieldName = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=256), AfterValidator(_shown)]
ScanToken = Annotated[str, StringConstraints(strict=True), AfterValidator(_shown)]


class Segment(_Wire):
    """One audience, as v2 and v1 describe it; empty text where Lytics tells no name.

    Args:
        kind: `segment` or nothing for an audience; others are goals, lists, metrics and the like.
        table: of the people it is made of; others than `user` hold things such as content.
    """

    id: Id
    slug_name: Text = None
    name: Text = None
    kind: str | None = None
    table: str | None = None
    size: Count = None
    deleted: Any = False
    invalid: Any = False


class SchemaField(_Wire):
    """One field of the schema: v2 calls its name `id`, v1 `as`, and identifiers `is_identifier` and `is_by`."""

    name: FieldName = Field(validation_alias=AliasChoices("id", "as"))
    type: Text = None
    shortdesc: Text = None
    is_identifier: bool = Field(default=False, validation_alias=AliasChoices("is_identifier", "is_by"))
    is_pii: bool = False


class SchemaTable(_Wire):
    """The schema as v1 has it: the fields under one of two names, and the names of identifiers."""

    fields: list[Any] | None = None
    columns: list[Any] | None = None
    by_fields: list[Any] | None = None


class Page(_Wire):
    """One page of a scan; the token of the next is called `next` in an old tutorial, and is empty on the last page."""

    data: list[Any] | None
    next: ScanToken | None = Field(default=None, validation_alias=AliasChoices("_next", "next"))
    total: Count = None
