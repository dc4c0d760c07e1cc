"""How long a statement, a lock or a connection may take."""

# A writer waits this long for its turn before the store counts as unavailable. Lytics then gets a 503 and retries.
WAIT_SECONDS = 10
# A statement that takes longer has lost its server. A session that rests longer in a transaction has lost its client.
LONGEST_STATEMENT_SECONDS = 30
