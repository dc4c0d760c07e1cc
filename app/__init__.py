"""Keeps Sailthru lists equal to Lytics audiences."""

__version__ = "0.2.0"
