"""Models of Lytics' JSON. Lytics calls an audience a "segment" there; the rest of the code does not.

Webhooks, default format and CloudEvents: https://www.contentstack.com/docs/lytics/webhooks
Audiences and fields: https://www.contentstack.com/docs/developers/apis/lytics-api/v2
Scans: https://www.contentstack.com/docs/developers/apis/lytics-api/v1/segment
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

from app.domain.values import storable

LONGEST_NUMBER = 400
LONGEST_COUNT = 15


def parse_json(body: bytes) -> Any:  # noqa: ANN401 - JSON may be anything
    """Return the JSON of a body. Broken Unicode is accepted, because one bad name must not reject a whole batch.

    Half surrogate pairs and bytes that are not UTF-8 become lone surrogates. Numbers of more than 400 digits become
    infinite.

    Raises:
        ValueError: the body is not JSON, or is nested too deeply.
    """
    try:
        return from_json(body, allow_inf_nan=False, cache_strings="keys")
    except ValueError:
        text = body.decode("utf-8-sig", "surrogateescape")
    try:
        return json.loads(text, parse_int=_whole_number, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("This is nested too deeply.") from None


def _whole_number(digits: str) -> int | float:
    return int(digits) if len(digits) <= LONGEST_NUMBER else float(digits)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"JSON has no {constant}.")


def _id_text(value: object) -> object:
    """Return a user id as text; None for "". Lytics sends 64-bit ids as text, because JavaScript would round them."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None if value == "" else value


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class Message(_Wire):
    """One webhook message: the default format, the older one without `id` and `meta.timestamp`, or a CloudEvent.

    Args:
        id: the user's id, in digits, up to 64 bits.
        data: the profile as sent, with `segment_events` among its fields.
        meta: the time and origin of the message. Any part may be missing, and a CloudEvent has no `meta`.
        specversion, time: sent in a CloudEvent only. https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
    """

    id: Annotated[
        Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9]{1,20}$")] | None, BeforeValidator(_id_text)
    ] = None
    # Not validated, because names may hold broken Unicode.
    data: InstanceOf[dict[str, Any]]
    meta: Any = None
    specversion: Any = None
    time: Any = None


def _count(value: object) -> object:
    """Return the count, which v1 may send as text; None for any other value."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= LONGEST_COUNT:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("This has characters that cannot be printed.")
    return value


Count = Annotated[int | None, BeforeValidator(_count)]
Text = Annotated[str | None, AfterValidator(storable)]
Id = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=128), AfterValidator(_printable)]
FieldName = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=256), AfterValidator(_printable)]
ScanToken = Annotated[str, StringConstraints(strict=True), AfterValidator(_printable)]


class Segment(_Wire):
    """One audience, as v2 and v1 describe it.

    Args:
        name: empty or None if the audience has no name in Lytics.
        kind: `segment`, empty or None for an audience. Goals, lists and metrics have other kinds.
        table: `user`, empty or None for an audience of people. Other tables hold content, for example.
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
    """One field of the schema. v1 sends `id` as `as`, and `is_identifier` as `is_by`."""

    name: FieldName = Field(validation_alias=AliasChoices("id", "as"))
    type: Text = None
    shortdesc: Text = None
    is_identifier: bool = Field(default=False, validation_alias=AliasChoices("is_identifier", "is_by"))
    is_pii: bool = False


class SchemaTable(_Wire):
    """The schema in v1: its fields are `fields` or `columns`, and `by_fields` names the identifiers."""

    fields: list[Any] | None = None
    columns: list[Any] | None = None
    by_fields: list[Any] | None = None


class Page(_Wire):
    """One page of a scan. The token of the next page is empty on the last page. An old tutorial calls it `next`."""

    data: list[Any] | None
    next: ScanToken | None = Field(default=None, validation_alias=AliasChoices("_next", "next"))
    total: Count = None
