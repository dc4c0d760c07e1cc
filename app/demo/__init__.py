"""The demo: a sandbox, the service, and sample traffic, as real processes over real HTTP."""
