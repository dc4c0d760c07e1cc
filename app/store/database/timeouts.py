"""How long a statement, a lock or a connection may take."""

# A writer waits this long for its turn before the store counts as unavailable; Lytics hears 503 and comes again.
WAIT_SECONDS = 10
# A statement that takes longer has lost its server; a session that rests for longer in a transaction its client.
LONGEST_STATEMENT_SECONDS = 30
