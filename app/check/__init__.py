"""Checks whether the service can run with its settings, and says what is wrong and what to do about it."""
