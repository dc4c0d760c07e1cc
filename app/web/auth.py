"""Authentication: maps a bearer token to the label of its owner, the actor."""

import hmac
from collections.abc import Mapping
from typing import Annotated

from fastapi import Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.web.dependencies import Injected

_bearer = HTTPBearer(auto_error=False, description="One of ADMIN_TOKENS.")
_Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


async def require_admin(service: Injected, credentials: _Bearer) -> str:
    """Return the actor of an admin token.

    Raises:
        HTTPException: 401, the token is missing or unknown.
    """
    return _actor(credentials, service.admin_tokens, "an admin token (ADMIN_TOKENS)")


async def require_metrics(service: Injected, credentials: _Bearer) -> str:
    """Return the actor of a metrics token. If METRICS_TOKENS is empty, admin tokens are accepted.

    Raises:
        HTTPException: 401, the token is missing or unknown.
    """
    tokens = service.metrics_tokens or service.admin_tokens
    return _actor(credentials, tokens, "a metrics token (METRICS_TOKENS or, if that is empty, ADMIN_TOKENS)")


def _actor(credentials: HTTPAuthorizationCredentials | None, tokens: Mapping[str, str], needed: str) -> str:
    given = credentials.credentials.encode() if credentials is not None else b""
    # Compare with every token in constant time, so that the duration reveals nothing about the tokens.
    actors = [label for label, token in tokens.items() if hmac.compare_digest(given, token.encode())]
    if not actors:
        raise HTTPException(
            401, f"This call needs {needed}. Send it as Authorization: Bearer TOKEN.", {"WWW-Authenticate": "Bearer"}
        )
    return actors[0]
