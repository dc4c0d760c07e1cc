"""The audiences and fields in Lytics. Each request calls Lytics."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from app.domain.audience import Audience
from app.domain.errors import NoLyticsToken
from app.domain.field import ProfileField
from app.domain.fields import BOOKKEEPING, is_sendable
from app.lytics.client import LyticsClient
from app.sailthru.vars import legal_var
from app.web.auth import require_admin
from app.web.dependencies import Injected
from app.web.problems import declared

router = APIRouter(
    prefix="/lytics", tags=["lytics"], dependencies=[Depends(require_admin)], responses=declared(401, 409, 503)
)


class LyticsAudienceView(BaseModel):
    """An audience that can be exported."""

    id: str
    slug: str
    name: str
    size: int | None = Field(description="The number of members; null if Lytics does not give it.")


class LyticsAudiencesView(BaseModel):
    """All audiences that can be exported."""

    items: list[LyticsAudienceView]


class LyticsFieldView(BaseModel):
    """A profile field in Lytics."""

    name: str
    type: str = Field(description="The type as Lytics names it; empty if Lytics does not give it.")
    title: str
    is_identifier: bool
    is_pii: bool
    var: str | None = Field(
        description="The default Sailthru var of the field; null if a field of this type cannot be exported."
    )


class LyticsFieldsView(BaseModel):
    """All profile fields."""

    items: list[LyticsFieldView]


async def _lytics(service: Injected) -> LyticsClient:
    if service.lytics is None:
        raise NoLyticsToken
    return service.lytics


Lytics = Annotated[LyticsClient, Depends(_lytics)]


@router.get("/audiences", summary="List the audiences in Lytics")
async def list_audiences(lytics: Lytics) -> LyticsAudiencesView:
    """Lists the valid audiences of users, by name. Deleted audiences are left out."""
    audiences = sorted(await lytics.audiences(), key=_by_name)
    return LyticsAudiencesView(
        items=[
            LyticsAudienceView(id=audience.id, slug=audience.slug, name=audience.name, size=audience.size)
            for audience in audiences
        ]
    )


@router.get("/fields", summary="List the profile fields in Lytics")
async def list_fields(lytics: Lytics) -> LyticsFieldsView:
    """Lists all fields by name, with Lytics' internal fields last."""
    return LyticsFieldsView(items=[_view(field) for field in sorted(await lytics.fields(), key=_internal_last)])


def _by_name(audience: Audience) -> tuple[str, str]:
    return audience.name.strip().casefold(), audience.id


def _internal_last(field: ProfileField) -> tuple[bool, str, str]:
    return field.name.startswith(BOOKKEEPING), field.name.casefold(), field.name


def _view(field: ProfileField) -> LyticsFieldView:
    return LyticsFieldView(
        name=field.name,
        type=field.type,
        title=field.title,
        is_identifier=field.is_identifier,
        is_pii=field.is_pii,
        var=legal_var(field.name) if is_sendable(field) else None,
    )
