"""Tests of `app.sailthru`."""
