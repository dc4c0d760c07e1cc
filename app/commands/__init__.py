"""The commands that talk to a running service, over its own API."""
