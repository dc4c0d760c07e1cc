"""The context of a request, and the function that sends its answer."""

from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.types import Send

from app.sandbox.connection import hang_up
from app.sandbox.sailthru.answers import Answer, render
from app.sandbox.sailthru.call_log import CallLog, LoggedCall
from app.sandbox.sailthru.limits import Rate
from app.sandbox.sailthru.parameters import Parameters


@dataclass
class RequestContext:
    """The facts about a request in progress. `call_log` and `entry` are None until its API key is known."""

    rate: Rate
    parameters: Parameters = field(default_factory=Parameters)
    call_log: CallLog | None = None
    entry: LoggedCall | None = None


async def send_answer(
    answer: Answer | None, context: RequestContext, request: Request, send: Send, *, closes: bool
) -> None:
    """Send the answer. If there is none, reset the connection; after half an answer, close it.

    Raises:
        ConnectionResetError: the client is in this process, so there is no connection to end.
    """
    if answer is None:
        await hang_up(request.scope, request.receive, how="reset")
        return
    headers, body = render(answer, is_json=context.parameters.wants_json, rate=context.rate, closes=closes)
    is_cut_off = answer.form == "half"
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": is_cut_off})
    if is_cut_off:
        await hang_up(request.scope, request.receive, how="close")
