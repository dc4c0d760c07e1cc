"""Dead letters: changes that were given up. The API lists, explains and redrives them."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Body, Depends, HTTPException, Query
from pydantic import BaseModel, ConfigDict, Field, StrictInt

from app.explain.codes import explain
from app.store.members.dead_letters import DeadLetter, Filter, Place
from app.web.api.addresses import normalized
from app.web.auth import require_admin
from app.web.dependencies import Injected
from app.web.problems import declared

PAGE_SIZE = 100
MAX_CODE_LENGTH = 64

router = APIRouter(tags=["dead letters"], dependencies=[Depends(require_admin)], responses=declared(401, 503))

Code = Annotated[str, Field(min_length=1, max_length=MAX_CODE_LENGTH)]
Email = Annotated[str, Field(min_length=1, max_length=320)]
ExportNumber = Annotated[int, Field(ge=1, le=2**63 - 1)]


class ExplanationView(BaseModel):
    """The explanation of a code."""

    happened: str
    to_whom: str = Field(description="The affected members: one member, a list, an account, or all members.")
    next_step: str = Field(description="The action that the operator should take.")

    @classmethod
    def of(cls, code: str) -> "ExplanationView":
        explanation = explain(code)
        return cls(happened=explanation.happened, to_whom=explanation.to_whom, next_step=explanation.next_step)


class DeadLetterView(ExplanationView):
    """One membership whose change was given up."""

    export_id: int
    authorization: str
    list: str | None
    email: str
    code: str = Field(description="Sailthru's error number, an HTTP status, or a word of this service.")
    desired: str = Field(description="The state that a redrive would deliver: `in` or `out`.")
    dead_at: datetime | None


class DeadLettersView(BaseModel):
    """One page of dead letters."""

    items: list[DeadLetterView]
    next: str | None = Field(description="The `cursor` of the next page; null on the last page.")


class RedriveRequest(BaseModel):
    """The dead letters to redrive: all that match every given filter, or `all` without a filter."""

    model_config = ConfigDict(extra="forbid")

    code: Code | StrictInt | None = None
    export: ExportNumber | None = None
    email: Email | None = None
    all: bool = False
    preview: bool = Field(default=False, description="Only count. Nothing is redriven.")


class RedriveView(BaseModel):
    """The number of redriven dead letters."""

    redriven: int
    would_redrive: int | None = Field(
        default=None, description="Only in a preview: the number of matching dead letters."
    )


@router.get("/dead-letters", summary="List dead letters and their remedies", responses=declared(422))
async def list_dead_letters(
    service: Injected,
    export: Annotated[ExportNumber | None, Query()] = None,
    code: Annotated[Code | None, Query()] = None,
    email: Annotated[Email | None, Query()] = None,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,18}-[0-9]{1,18}$")] = None,
) -> DeadLettersView:
    """Lists the dead letters that match every given filter. Each page has up to a hundred, ordered by export."""
    letters = await service.dead_letters.page(_filter(export, code, email), after=_place(cursor), size=PAGE_SIZE + 1)
    items = letters[:PAGE_SIZE]
    following = f"{items[-1].place.export_id}-{items[-1].place.member_id}" if len(letters) > PAGE_SIZE else None
    return DeadLettersView(items=[_view(letter) for letter in items], next=following)


@router.post(
    "/dead-letters/redrive",
    summary="Redrive dead letters",
    responses=declared(400, 422),
    response_model_exclude_none=True,
)
async def redrive_dead_letters(service: Injected, request: Annotated[RedriveRequest, Body()]) -> RedriveView:
    """Puts back all matching dead letters in one transaction. Each member's newest change is delivered."""
    filters = (request.export, request.code, request.email)
    if any(value is not None for value in filters) == request.all:
        raise HTTPException(
            422,
            'Choose the dead letters to redrive: give one or more of {"code": ...}, {"export": ...}, {"email": ...}, or'
            ' {"all": true} without a filter for all of them.',
        )
    chosen = _filter(request.export, request.code, request.email)
    if request.preview:
        return RedriveView(redriven=0, would_redrive=await service.dead_letters.count(chosen))
    redriven = await service.dead_letters.redrive(chosen)
    for account in redriven.due_accounts:
        service.wake(account)
    return RedriveView(redriven=redriven.count)


def _filter(export_id: int | None, code: str | int | None, email: str | None) -> Filter:
    return Filter(
        export_id=export_id,
        code=None if code is None else str(code),
        address=None if email is None else normalized(email),
    )


def _place(cursor: str | None) -> Place | None:
    if cursor is None:
        return None
    export_id, _, member_id = cursor.partition("-")
    return Place(int(export_id), int(member_id))


def _view(letter: DeadLetter) -> DeadLetterView:
    return DeadLetterView(
        **ExplanationView.of(letter.code).model_dump(),
        export_id=letter.place.export_id,
        authorization=letter.account,
        list=letter.list_name,
        email=letter.address,
        code=letter.code,
        desired="in" if letter.desired else "out",
        dead_at=letter.dead_at,
    )
