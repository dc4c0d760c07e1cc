"""The baseline of the measurements: a FastAPI app that accepts the same webhook and does nothing with it."""

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
