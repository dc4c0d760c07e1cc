"""Authorizations: the Sailthru accounts of the settings and their state."""

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from app.domain.account import AccountReport
from app.explain.codes import explain
from app.web.auth import require_admin
from app.web.dependencies import Injected
from app.web.problems import declared

router = APIRouter(tags=["authorizations"], dependencies=[Depends(require_admin)], responses=declared(401))


class AuthorizationView(BaseModel):
    """A Sailthru account, without its key and secret."""

    label: str
    state: Literal["running", "refused", "outage"] = Field(
        description="`refused`: Sailthru refuses every call of this account. `outage`: Sailthru does not answer."
    )
    code: str | None = Field(
        description="Why the circuit breaker is open: Sailthru's error number, or a word of this service."
    )
    reason: str | None = Field(description="The problem and the next step.")
    paused_at: datetime | None = Field(
        description="When the circuit breaker opened; null while the account is running."
    )
    base_url: str
    limits: dict[str, int] = Field(
        description="Calls that may leave now, by endpoint, within our share of Sailthru's rate limit. The value is 1"
        " until the limit is known."
    )


class AuthorizationsView(BaseModel):
    """All accounts, in the order of the settings."""

    items: list[AuthorizationView]


@router.get("/authorizations", summary="List the Sailthru accounts and their state")
async def list_authorizations(service: Injected) -> AuthorizationsView:
    """Lists every account of the settings, without its key and secret."""
    return AuthorizationsView(items=[_view(report) for report in service.authorizations()])


def _view(report: AccountReport) -> AuthorizationView:
    breaker = report.breaker
    explanation = None if breaker.code is None else explain(breaker.code)
    return AuthorizationView(
        label=report.label,
        state="running" if breaker.open_reason is None else breaker.open_reason.value,
        code=breaker.code,
        reason=None if explanation is None else f"{explanation.happened} {explanation.next_step}",
        paused_at=breaker.opened_at,
        base_url=report.base_url,
        limits=dict(report.calls_left),
    )
