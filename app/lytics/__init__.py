"""All we know of Lytics: its webhooks, its times and addresses, and its API."""
