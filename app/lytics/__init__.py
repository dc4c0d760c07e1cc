"""Everything specific to Lytics: its webhooks, times, addresses and API."""
