"""A Sailthru and a Lytics that run on this machine, to try the product without accounts and to test it.

Both are built from what the vendors publish and from recorded exchanges. Nothing here imports the clients in
`app.sailthru` and `app.lytics`, so a mistake in a client cannot hide behind the same mistake here.
"""
