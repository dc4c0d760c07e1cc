"""Sends the response to a read, or the fault that the read meets."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Send

from app.sandbox.bodies import html_error, xml_error
from app.sandbox.connection import disconnected, hang_up
from app.sandbox.delays import Delays
from app.sandbox.faults import Empty, Error, Fault, Half, Hang, Html, Slow, Xml


async def send_response(
    request: Request, send: Send, *, fault: Fault | None, read: Callable[[], Response], delays: Delays
) -> None:
    """Send the response of `read`, or the faulty form of it.

    A read has no effect, so only the fault's kind, `seconds`, status and text matter.

    Raises:
        ConnectionResetError: the client is in this process, so there is no connection to end.
    """
    if fault is None:
        await read()(request.scope, request.receive, send)
        return
    await request.body()
    if isinstance(fault, Hang):
        await delays.until(disconnected(request.receive))
    else:
        await delays.sleep(fault.seconds)
    response = _faulty_response(fault, read)
    if response is None:
        await hang_up(request.scope, request.receive, how="reset")
    elif isinstance(fault, Half):
        body = bytes(response.body)
        await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        await hang_up(request.scope, request.receive, how="close")
    else:
        await response(request.scope, request.receive, send)


def _faulty_response(fault: Fault, read: Callable[[], Response]) -> Response | None:
    match fault:
        case Error(status=status, text=text):
            return JSONResponse({"message": text, "status": status}, status_code=status)
        case Xml(status=status, code=code, text=text):
            return Response(xml_error(code, text), status_code=status, media_type="text/xml")
        case Html(status=status):
            return HTMLResponse(html_error(status), status_code=status)
        case Empty(status=status):
            return Response(status_code=status)
        case Half() | Slow():
            return read()
        case _:
            return None
