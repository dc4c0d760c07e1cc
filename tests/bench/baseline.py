"""What the service is measured against: the same webhook on FastAPI, and nothing done with it."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel


class Envelope(BaseModel):
    id: str
    data: dict[str, Any]
    meta: dict[str, Any]


app = FastAPI()


@app.post("/webhooks/lytics", response_model=None)
async def hook(body: Envelope) -> dict[str, int]:
    return {"accepted": len(body.data["segment_events"])}
