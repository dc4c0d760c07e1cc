"""The OpenAPI description of the webhook endpoint."""

SENT = "2026-04-11T17:40:36.220144871Z"
PROFILE: dict[str, object] = {
    "type": "object",
    "description": "The profile: the fields that are ticked under Export Fields in the Lytics job.",
    "required": ["segment_events"],
    "properties": {
        "email": {
            "description": "One address or several. The service uses the first valid address.",
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        },
        "segment_events": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["id", "event"],
                "properties": {
                    "id": {"type": "string", "description": "The id of the audience."},
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
    "description": "The id of the Lytics user, not of the event.",
}
MESSAGE: dict[str, object] = {
    "title": "Message",
    "description": "Lytics' default format. Its older version has no `id` and no time.",
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
    "description": "The format of a Lytics job with the box CloudEvents ticked.",
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
            "description": "The format of a Lytics job with the box Batch Events ticked.",
            "type": "array",
            "items": {"anyOf": [MESSAGE, CLOUD_EVENT]},
        },
    ]
}
# The body is read as JSON with any Content-Type.
MEDIA_TYPES = ("application/json", "application/cloudevents+json", "application/cloudevents-batch+json", "*/*")
RECEIPT: dict[str, object] = {
    "type": "object",
    "required": ["accepted", "ignored", "rejected"],
    "properties": {
        "accepted": {"type": "integer", "description": "Events that were stored."},
        "ignored": {
            "type": "integer",
            "description": "Duplicates, older changes, and events of audiences without an export.",
        },
        "rejected": {"type": "integer", "description": "Events that could not be stored. See GET /rejected-events."},
    },
}


# FastAPI cannot derive these parts, because the path operation takes the bare request.
OPERATION: dict[str, object] = {
    "parameters": [
        {"name": "token", "in": "query", "required": False, "schema": {"type": "string"}},
        {"name": "X-API-Key", "in": "header", "required": False, "schema": {"type": "string"}},
    ],
    "requestBody": {"required": True, "content": {name: {"schema": BODY} for name in MEDIA_TYPES}},
}
