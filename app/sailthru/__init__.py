"""All we know of Sailthru: how a call is signed, sent and read, and what lists and members mean there."""
