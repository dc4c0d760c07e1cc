"""All we know of Sailthru: how calls are signed, sent, limited and read, and what lists and members are there."""
