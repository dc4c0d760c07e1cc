"""Tests of `app.lytics`."""
