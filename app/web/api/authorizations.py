"""Authorizations: the Sailthru accounts of the settings, and whether they can be called."""

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from app.domain.account import AccountReport
from app.explain.codes import explain
from app.web.dependencies import Injected, require_admin
from app.web.problems import declared

router = APIRouter(tags=["authorizations"], dependencies=[Depends(require_admin)], responses=declared(401))


class AuthorizationView(BaseModel):
    """One Sailthru account, without its key and secret."""

    label: str
    state: Literal["running", "refused", "outage"] = Field(
        description="`refused` while Sailthru takes no call of this account, `outage` while it does not answer."
    )
    code: str | None = Field(description="Why it is paused: Sailthru's error number, or a word of ours.")
    reason: str | None = Field(description="The code in words, and what to do.")
    paused_at: datetime | None
    base_url: str
    limits: dict[str, int] = Field(
        description="Calls that may leave now within our share of Sailthru's limit, by call; 1 until it is known."
    )


class AuthorizationsView(BaseModel):
    """All accounts."""

    items: list[AuthorizationView]


@router.get("/authorizations", summary="The Sailthru accounts and how they stand")
async def list_authorizations(doors: Injected) -> AuthorizationsView:
    """In the order of the settings."""
    return AuthorizationsView(items=[_view(one) for one in doors.status.authorizations()])


def _view(report: AccountReport) -> AuthorizationView:
    standing = report.standing
    said = None if standing.code is None else explain(standing.code)
    return AuthorizationView(
        label=report.label,
        state="running" if standing.pause is None else standing.pause.value,
        code=standing.code,
        reason=None if said is None else f"{said.happened} {said.next_step}",
        paused_at=standing.paused_at,
        base_url=report.base_url,
        limits=dict(report.calls_left),
    )
