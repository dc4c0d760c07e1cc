"""The doors of a Lytics sandbox for tests and demos, under `/_sandbox/`. Unsigned JSON."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse

from app.sandbox import control
from app.sandbox.answers import JSONObject
from app.sandbox.audiences import Audience
from app.sandbox.control import BadWish
from app.sandbox.rules import Faults
from app.sandbox.scans import Scans


class Sandbox(Protocol):
    """What the doors open onto."""

    audiences: dict[str, Audience]
    faults: Faults
    scans: Scans

    @property
    def availability(self) -> object:
        """The switches of not being there."""
        ...

    def put(self, *audiences: Audience) -> None:
        """Adds or replaces audiences."""
        ...

    def called(self, label: object) -> Audience | None:
        """The audience of an id or a slug."""
        ...

    def state(self) -> JSONObject:
        """All there is to see."""
        ...

    def reset(self) -> None:
        """Starts anew."""
        ...


def lytics_doors(sandbox: Sandbox) -> Starlette:
    """The control app of a Lytics sandbox.

    - `GET state`
    - `POST audiences` `{"id", "name", "slug"?, "deleted"?}`, or an array of them as `{"audiences": [...]}`: adds,
      renames or deletes
    - `POST members` `{"audience": id or slug, "add": [profile, ...], "remove": [id or address, ...], "generate": n}`:
      who enters and who leaves; `n` people are made up, as `people.person` has them
    - `POST scans` `{"loops": bool, "unknown_token_is_404": bool, "expire": bool}`: see `ScanSwitches`; `expire` makes
      all tokens unknown that were handed out so far
    - `POST availability` `{"unreachable": bool, "token_expired": bool}`
    - `POST faults`, `GET faults`: see `control.fault_doors`; the endpoints of one audience are "/v2/segment/{id}" and
      "/api/segment/{id}/scan", and its id or slug, as the call names it, is what the `ids` of a rule are about
    - `POST reset`: forgets the counts, becomes reachable and scans well; audiences stay, and who is in them

    All but those of faults answer with the state.
    """
    show_faults, set_faults = control.fault_doors(sandbox.faults)

    async def state(_request: Request) -> JSONResponse:
        return JSONResponse(sandbox.state())

    async def audiences(request: Request) -> JSONResponse:
        wish = await control.read_object(request)
        wishes = wish.get("audiences", [wish])
        if not isinstance(wishes, list):
            raise BadWish("`audiences` is an array.")
        sandbox.put(*[_wished(one, sandbox.audiences) for one in wishes])
        return JSONResponse(sandbox.state())

    async def members(request: Request) -> JSONResponse:
        wish = await control.read_object(request)
        audience = sandbox.called(wish.get("audience"))
        if audience is None:
            raise BadWish("`audience` is the id or slug of an audience.")
        sandbox.scans.change_people(audience, wish)
        return JSONResponse(sandbox.state())

    async def scans(request: Request) -> JSONResponse:
        sandbox.scans.change(await control.read_object(request))
        return JSONResponse(sandbox.state())

    async def availability(request: Request) -> JSONResponse:
        control.set_switches(sandbox.availability, await control.read_object(request))
        return JSONResponse(sandbox.state())

    async def reset(_request: Request) -> JSONResponse:
        sandbox.reset()
        return JSONResponse(sandbox.state())

    return control.doors(
        {"state": state, "faults": show_faults},
        {"faults": set_faults, **{f.__name__: f for f in (audiences, members, scans, availability, reset)}},
    )


def _wished(wish: object, known: Mapping[str, Audience]) -> Audience:
    if not isinstance(wish, dict) or not isinstance(wish.get("id"), str) or not isinstance(wish.get("name"), str):
        raise BadWish("An audience has an `id` and a `name`, both texts.")
    present = known.get(wish["id"]) or Audience(wish["id"], wish["name"], wish["name"].lower().replace(" ", "_"))
    is_deleted = wish.get("deleted", present.is_deleted)
    if not isinstance(is_deleted, bool):
        raise BadWish("`deleted` is true or false.")
    return replace(present, name=wish["name"], slug=str(wish.get("slug") or present.slug), is_deleted=is_deleted)
