"""The Lytics sandbox."""

from app.sandbox.lytics.app import SCAN, LyticsSandbox

__all__ = ["SCAN", "LyticsSandbox"]
