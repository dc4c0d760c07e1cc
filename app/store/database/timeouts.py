"""How long a statement, a lock or a connection may take."""

# A writer waits this long for its turn before the store counts as unavailable. Lytics then gets a 503 and retries.
WAIT_SECONDS = 10
# After this time a statement without an answer fails, and the server ends an idle transaction.
LONGEST_STATEMENT_SECONDS = 30
