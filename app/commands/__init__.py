"""The commands that talk to a running service through its API."""
