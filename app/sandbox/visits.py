"""A request being served: what is known of it so far, and the reply."""

from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.types import Send

from app.sandbox.answers import Answer, render
from app.sandbox.connection import hang_up
from app.sandbox.limits import Rate
from app.sandbox.observation import LoggedCall, Observation
from app.sandbox.requests import Parameters


@dataclass
class Visit:
    """What is known so far of a request; account and log only once its key is known."""

    rate: Rate
    parameters: Parameters = field(default_factory=Parameters)
    observation: Observation | None = None
    entry: LoggedCall | None = None


async def reply(answer: Answer | None, visit: Visit, request: Request, send: Send, *, closes: bool) -> None:
    """Sends the answer. Hangs up after half of it, where it is only half, and at once, where there is none.

    Raises:
        ConnectionResetError: the way to hang up on a client in this process.
    """
    if answer is None:
        await hang_up(request.scope, request.receive, how="reset")
        return
    headers, body = render(answer, is_json=visit.parameters.wants_json, rate=visit.rate, closes=closes)
    is_cut_off = answer.form == "half"
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": is_cut_off})
    if is_cut_off:
        await hang_up(request.scope, request.receive, how="close")
