"""The audiences and user fields of a Lytics account, and their form in the API."""

from dataclasses import dataclass

from app.sandbox.bodies import JSONObject

CREATED = "2026-01-05T12:00:00Z"
SCALAR_TYPES = frozenset({"string", "bool", "int", "number", "float", "date", "time", "datetime"})


@dataclass(frozen=True)
class Audience:
    """An audience. The id never changes; name and slug may."""

    id: str
    name: str
    slug: str
    size: int = 0
    kind: str = "segment"
    is_invalid: bool = False
    is_deleted: bool = False


@dataclass(frozen=True)
class Field:
    id: str
    type: str = "string"
    is_identifier: bool = False


SPRING_BUYERS = Audience("0a1b2c3d4e5f60718293a4b5c6d7e8f9", "Spring Buyers", "spring_buyers")
USUAL_FIELDS = (
    Field("email", is_identifier=True),
    Field("first_name"),
    Field("last_name"),
    Field("city"),
    Field("visitct", "int"),
    Field("is_member", "bool"),
    Field("lastvisit_ts", "date"),
    Field("emails", "[]string"),
    Field("hourly", "map[string]int"),
)


def segment(audience: Audience, *, with_size: bool) -> JSONObject:
    """Return an audience in the form of the API. Only id, names, kind, flags and size vary."""
    described: JSONObject = {
        "id": audience.id,
        "aid": 1,
        "account_id": "00000000000000000000aaaa",
        "author_id": "00000000000000000000bbbb",
        "name": audience.name,
        "slug_name": audience.slug,
        "description": "",
        "kind": audience.kind,
        "table": "user",
        "is_public": True,
        "public_name": audience.slug,
        "segment_ql": f"FILTER visitct > 5 FROM user ALIAS {audience.slug}",
        "tags": [],
        "groups": [],
        "invalid": audience.is_invalid,
        "invalid_reason": "unknown field" if audience.is_invalid else "",
        "deleted": audience.is_deleted,
        "save_hist": True,
        "schedule_exit": False,
        "datemath_calc": False,
        "forward_datemath": False,
        "created": CREATED,
        "updated": CREATED,
    }
    return described | ({"size": audience.size} if with_size else {})


def schema_field(field: Field) -> JSONObject:
    return {
        "id": field.id,
        "type": field.type,
        "shortdesc": field.id.replace("_", " ").title(),
        "longdesc": "",
        "mergeop": "latest",
        "is_identifier": field.is_identifier,
        "is_pii": field.is_identifier,
        "tags": [],
        "created": CREATED,
        "modified": CREATED,
    }
