"""Simulations of Sailthru and Lytics, for tests and for trying the service without accounts.

Both follow the vendors' documentation and recorded exchanges. Nothing here imports the clients in
`app.sailthru` and `app.lytics`, so a mistake in a client cannot hide behind the same mistake here.
"""
