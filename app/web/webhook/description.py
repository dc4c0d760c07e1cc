"""The webhook door's place in the OpenAPI: a bare endpoint can't describe itself."""

from app.web.problems import declared
from app.web.webhook.route import METHODS

SENT = "2026-04-11T17:40:36.220144871Z"
PROFILE: dict[str, object] = {
    "type": "object",
    "description": "The profile as Lytics sends it: the fields that are ticked under Export Fields.",
    "required": ["segment_events"],
    "properties": {
        "email": {
            "description": "The address, or several of them: the first that can be used counts.",
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        },
        "segment_events": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["id", "event"],
                "properties": {
                    "id": {"type": "string", "description": "The audience."},
                    "slug": {"type": "string"},
                    "event": {"enum": ["enter", "exit", "change"]},
                    "enter": {"type": "string", "format": "date-time"},
                    "exit": {"type": "string", "format": "date-time"},
                },
            },
        },
    },
    "example": {
        "email": "ada@example.com",
        "segment_events": [
            {"id": "0a1b2c3d4e5f60718293a4b5c6d7e8f9", "slug": "spring_buyers", "event": "enter", "enter": SENT}
        ],
    },
}
USER: dict[str, object] = {
    "type": "string",
    "pattern": "^[0-9]{1,20}$",
    "description": "The Lytics user, not the event.",
}
MESSAGE: dict[str, object] = {
    "title": "Message",
    "description": "Lytics' default format; an older one leaves out `id` and the time.",
    "type": "object",
    "required": ["data"],
    "properties": {
        "id": USER,
        "data": PROFILE,
        "meta": {"type": "object", "properties": {"timestamp": {"type": "string", "format": "date-time"}}},
    },
}
CLOUD_EVENT: dict[str, object] = {
    "title": "CloudEvent",
    "description": "The box CloudEvents of the Lytics job.",
    "type": "object",
    "required": ["specversion", "data"],
    "properties": {
        "specversion": {"type": "string", "example": "1.0"},
        "id": USER,
        "source": {"type": "string"},
        "type": {"type": "string"},
        "time": {"type": "string", "format": "date-time"},
        "data": PROFILE,
    },
}
BODY: dict[str, object] = {
    "anyOf": [
        MESSAGE,
        CLOUD_EVENT,
        {
            "title": "Batch",
            "description": "The box Batch Events of the Lytics job.",
            "type": "array",
            "items": {"anyOf": [MESSAGE, CLOUD_EVENT]},
        },
    ]
}
# The body is read as JSON whatever it calls itself.
MEDIA_TYPES = ("application/json", "application/cloudevents+json", "application/cloudevents-batch+json", "*/*")
RECEIPT: dict[str, object] = {
    "type": "object",
    "required": ["accepted", "ignored", "rejected"],
    "properties": {
        "accepted": {"type": "integer"},
        "ignored": {"type": "integer", "description": "Duplicates, older changes, audiences that nobody exports."},
        "rejected": {"type": "integer", "description": "See GET /rejected-events."},
    },
}


def describe() -> dict[str, object]:
    """The operations of the door's path."""
    operation: dict[str, object] = {
        "tags": ["webhooks"],
        "summary": "Take audience events of Lytics",
        "description": "200 once everything that can be kept is on disk; 400 if nothing can. The token stands in"
        " Authorization, X-API-Key or ?token=.",
        "parameters": [
            {"name": "token", "in": "query", "required": False, "schema": {"type": "string"}},
            {"name": "X-API-Key", "in": "header", "required": False, "schema": {"type": "string"}},
        ],
        "requestBody": {"required": True, "content": {name: {"schema": BODY} for name in MEDIA_TYPES}},
        "responses": {
            "200": {"description": "Stored", "content": {"application/json": {"schema": RECEIPT}}},
            **{str(status): answer for status, answer in declared(400, 401, 408, 413, 503).items()},
        },
    }
    return {method.lower(): {**operation, "operationId": f"{method.lower()}_webhook"} for method in METHODS}
