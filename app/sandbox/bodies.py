"""Bodies that both sandboxes send: JSON objects, errors as XML, and the error pages of a proxy."""

from http import HTTPStatus
from xml.sax.saxutils import escape

JSONObject = dict[str, object]


def xml_error(code: object, text: object) -> str:
    """Return an error in the form that Sailthru sends unless the caller asks for JSON."""
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        f"<triggermail><error>{code}</error><errormsg>{escape(str(text))}</errormsg></triggermail>"
    )


def html_error(status: int) -> str:
    """Return the error page of a proxy in front of an API."""
    words = f"{status} {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else str(status)
    return (
        f"<html>\r\n<head><title>{words}</title></head>\r\n<body>\r\n<center><h1>{words}</h1></center>\r\n"
        "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    )
