"""The Sailthru sandbox."""

from app.sandbox.sailthru.app import Access, SailthruSandbox

__all__ = ["Access", "SailthruSandbox"]
