"""
Lytics' JSON as it is on the wire: its word "segment" for an audience stops here.

Webhooks, default format and CloudEvents: https://www.contentstack.com/docs/lytics/webhooks
Audiences: https://www.contentstack.com/docs/developers/apis/lytics-api/v2
"""

import json
from typing import Annotated, Any, NoReturn

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import from_json

LONGEST_NUMBER = 400


def parse_json(body: bytes) -> Any:  # noqa: ANN401 - whatever was sent
    """
    The JSON of a body, also where its texts are not whole Unicode: one broken name must not take a batch along.

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
    """
    A user id as text: Lytics sends 64-bit numbers as text, since JavaScript would round them; "" stands for none.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None if value == "" else value


def _mapping_or_empty(value: object) -> object:
    return value if isinstance(value, dict) else {}


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class Meta(_Wire):
    """
    About a message: nothing of it is promised, all of it may be missing.
    """

    timestamp: Any = None


class Message(_Wire):
    """
    One webhook message: in the default format, in the older one without `id` and `meta.timestamp`, or a CloudEvent.

    Args:
        id: of the user; digits, up to 64 bits.
        data: the profile as sent, with `segment_events` among its fields.
        meta: about the message; a CloudEvent has none.
        specversion, time: of a CloudEvent. https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
    """

    id: Annotated[
        Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9]{1,20}$")] | None, BeforeValidator(_id_text)
    ] = None
    # Names are texts in all JSON; `str` would refuse one that is not whole Unicode, and the message with it.
    data: dict[Any, Any]
    meta: Annotated[Meta, BeforeValidator(_mapping_or_empty)] = Meta()
    specversion: Any = None
    time: Any = None


class Segment(_Wire):
    """
    One audience as `GET /v2/segment/{id}` describes it; empty text where Lytics tells no name.
    """

    id: Annotated[str, StringConstraints(strict=True, min_length=1, max_length=128)]
    slug_name: str | None = None
    name: str | None = None
    deleted: Any = Field(default=False)


class SegmentAnswer(_Wire):
    """
    The envelope around one audience.
    """

    data: Segment
