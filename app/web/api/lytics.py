"""What Lytics has to choose from when an export is started: audiences and fields, asked of Lytics at each call."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from app.domain.audience import Audience
from app.domain.errors import NoLyticsToken
from app.domain.field import ProfileField
from app.domain.fields import BOOKKEEPING, is_sendable, legal_var
from app.web.dependencies import Injected, Lytics, require_admin
from app.web.problems import declared

router = APIRouter(
    prefix="/lytics", tags=["lytics"], dependencies=[Depends(require_admin)], responses=declared(401, 409, 503)
)


class LyticsAudienceView(BaseModel):
    """One audience that can be exported."""

    id: str
    slug: str
    name: str
    size: int | None = Field(description="How many people are in it; null where Lytics does not say.")


class LyticsAudiencesView(BaseModel):
    """All audiences that can be exported."""

    items: list[LyticsAudienceView]


class LyticsFieldView(BaseModel):
    """One field of the profiles in Lytics."""

    name: str
    type: str = Field(description="In Lytics' words; empty where it does not say.")
    title: str
    is_identifier: bool
    is_pii: bool
    var: str | None = Field(
        description="The Sailthru var that it is sent as if none is given; null where it can't be sent for its type."
    )


class LyticsFieldsView(BaseModel):
    """All fields."""

    items: list[LyticsFieldView]


async def _lytics(doors: Injected) -> Lytics:
    if doors.lytics is None:
        raise NoLyticsToken
    return doors.lytics


Asked = Annotated[Lytics, Depends(_lytics)]


@router.get("/audiences", summary="The audiences of Lytics")
async def list_audiences(lytics: Asked) -> LyticsAudiencesView:
    """Those of people that are neither deleted nor invalid, by name."""
    audiences = sorted(await lytics.audiences(), key=_by_name)
    return LyticsAudiencesView(
        items=[LyticsAudienceView(id=one.id, slug=one.slug, name=one.name, size=one.size) for one in audiences]
    )


@router.get("/fields", summary="The fields of Lytics' profiles")
async def list_fields(lytics: Asked) -> LyticsFieldsView:
    """By name, those of Lytics' own bookkeeping last."""
    return LyticsFieldsView(items=[_field(one) for one in sorted(await lytics.fields(), key=_bookkeeping_last)])


def _by_name(audience: Audience) -> tuple[str, str]:
    return audience.name.strip().casefold(), audience.id


def _bookkeeping_last(field: ProfileField) -> tuple[bool, str, str]:
    return field.name.startswith(BOOKKEEPING), field.name.casefold(), field.name


def _field(field: ProfileField) -> LyticsFieldView:
    return LyticsFieldView(
        name=field.name,
        type=field.type,
        title=field.title,
        is_identifier=field.is_identifier,
        is_pii=field.is_pii,
        var=legal_var(field.name) if is_sendable(field) else None,
    )
