"""The reply to a request that only reads, with the fault it meets."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Send

from app.sandbox.answers import error_as_xml, page
from app.sandbox.connection import disconnected, hang_up
from app.sandbox.faults import Empty, Error, Fault, Half, Hang, Html, Slow, Xml
from app.sandbox.patience import Patience


async def reply(
    request: Request, send: Send, *, fault: Fault | None, read: Callable[[], Response], patience: Patience
) -> None:
    """Sends what `read` returns, or what the fault makes of it. Since nothing takes effect, only the kind of the fault,
    its `seconds`, status and text count.

    Raises:
        ConnectionResetError: the way to hang up on a client in this process.
    """
    if fault is None:
        await read()(request.scope, request.receive, send)
        return
    await request.body()
    if isinstance(fault, Hang):
        await patience.silence(disconnected(request.receive))
    else:
        await patience.pause(fault.seconds)
    answer = _answer(fault, read)
    if answer is None:
        await hang_up(request.scope, request.receive, how="reset")
    elif isinstance(fault, Half):
        body = bytes(answer.body)
        await send({"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers})
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        await hang_up(request.scope, request.receive, how="close")
    else:
        await answer(request.scope, request.receive, send)


def _answer(fault: Fault, read: Callable[[], Response]) -> Response | None:
    match fault:
        case Error(status=status, text=text):
            return JSONResponse({"message": text, "status": status}, status_code=status)
        case Xml(status=status, code=code, text=text):
            xml = error_as_xml({"error": code, "errormsg": text})
            return Response(xml, status_code=status, media_type="text/xml")
        case Html(status=status):
            return HTMLResponse(page(status), status_code=status)
        case Empty(status=status):
            return Response(status_code=status)
        case Half() | Slow():
            return read()
        case _:
            return None
