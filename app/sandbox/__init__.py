"""A Sailthru and a Lytics of our own, to try the product against without accounts and to test it.

Built from what both vendors publish and from recorded exchanges, on its own: nothing here imports the client that it
answers, so that a mistake in the client can't hide.
"""
