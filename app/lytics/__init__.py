"""All we know of Lytics: its webhooks, times and addresses, and its API."""
