"""Dead letters: who was given up, why, and what to do; redriven by hand."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Body, Depends, HTTPException, Query
from pydantic import BaseModel, ConfigDict, Field, StrictInt

from app.explain.codes import explain
from app.store.members.dead_letters import DeadLetter, Filter, Place
from app.web.dependencies import Injected, require_admin
from app.web.problems import declared

PAGE_SIZE = 100
LONGEST_CODE = 64

router = APIRouter(tags=["dead letters"], dependencies=[Depends(require_admin)], responses=declared(401, 503))

Code = Annotated[str, Field(min_length=1, max_length=LONGEST_CODE)]
Email = Annotated[str, Field(min_length=1, max_length=320)]
ExportNumber = Annotated[int, Field(ge=1, le=2**63 - 1)]


class ExplanationView(BaseModel):
    """A code in words."""

    happened: str
    to_whom: str = Field(description="Whom it concerns: this person, a list, an account, or everybody.")
    next_step: str = Field(description="What to do now.")

    @classmethod
    def of(cls, code: str) -> "ExplanationView":
        """The words of a code."""
        said = explain(code)
        return cls(happened=said.happened, to_whom=said.to_whom, next_step=said.next_step)


class DeadLetterView(ExplanationView):
    """One person on one list, given up."""

    export_id: int
    authorization: str
    list: str | None
    email: str
    code: str = Field(description="Sailthru's error number, an HTTP status, or a word of ours.")
    desired: str = Field(description="`in` or `out`: what is told if it is redriven.")
    dead_at: datetime | None


class DeadLettersView(BaseModel):
    """One page of dead letters."""

    items: list[DeadLetterView]
    next: str | None = Field(description="The `cursor` of the next page; null on the last.")


class RedriveRequest(BaseModel):
    """Which dead letters to redrive: those to which everything given applies, or `all` alone."""

    model_config = ConfigDict(extra="forbid")

    code: Code | StrictInt | None = None
    export: ExportNumber | None = None
    email: Email | None = None
    all: bool = False
    preview: bool = Field(default=False, description="Only count.")


class RedriveView(BaseModel):
    """How many dead letters wait to be told again; a preview says how many would."""

    redriven: int
    would_redrive: int | None = None


@router.get("/dead-letters", summary="Dead letters and what to do", responses=declared(422))
async def list_dead_letters(
    doors: Injected,
    export: Annotated[ExportNumber | None, Query()] = None,
    code: Annotated[Code | None, Query()] = None,
    email: Annotated[Email | None, Query()] = None,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,18}-[0-9]{1,18}$")] = None,
) -> DeadLettersView:
    """A hundred at a time, by export; those to which every filter given applies."""
    found = await doors.dead_letters.page(_filter(export, code, email), after=_place(cursor), size=PAGE_SIZE + 1)
    items = found[:PAGE_SIZE]
    more = f"{items[-1].place.export_id}-{items[-1].place.member_id}" if len(found) > PAGE_SIZE else None
    return DeadLettersView(items=[_view(one) for one in items], next=more)


@router.post(
    "/dead-letters/redrive",
    summary="Tell dead letters again",
    responses=declared(400, 422),
    response_model_exclude_none=True,
)
async def redrive(doors: Injected, wanted: Annotated[RedriveRequest, Body()]) -> RedriveView:
    """All that match or none; what is told is whatever is newest. A second time finds nothing more to do."""
    filters = (wanted.export, wanted.code, wanted.email)
    if any(given is not None for given in filters) == wanted.all:
        raise HTTPException(
            422,
            'Say which dead letters: {"code": ...}, {"export": ...}, {"email": ...}, or several of them, or'
            ' {"all": true} alone for every one.',
        )
    which = _filter(wanted.export, wanted.code, wanted.email)
    if wanted.preview:
        return RedriveView(redriven=0, would_redrive=await doors.dead_letters.count(which))
    done = await doors.dead_letters.redrive(which)
    for account in done.due_accounts:
        doors.status.wake(account)
    return RedriveView(redriven=done.count)


def _filter(export_id: int | None, code: str | int | None, email: str | None) -> Filter:
    return Filter(
        export_id=export_id,
        code=None if code is None else str(code),
        address=None if email is None else email.strip().lower(),
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
