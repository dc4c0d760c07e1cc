"""
Lytics' JSON as it is on the wire: its word "segment" for an audience stops here.

Webhooks, default format: https://www.contentstack.com/docs/lytics/webhooks
Audiences: https://www.contentstack.com/docs/developers/apis/lytics-api/v2
"""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints


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
    One webhook message in the default format, or in the older one without `id` and `meta.timestamp`.

    Args:
        id: of the user; digits, up to 64 bits.
        data: the profile as sent, with `segment_events` among its fields.
        meta: about the message.
    """

    id: Annotated[
        Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9]{1,20}$")] | None, BeforeValidator(_id_text)
    ] = None
    data: dict[str, Any]
    meta: Annotated[Meta, BeforeValidator(_mapping_or_empty)] = Meta()


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
