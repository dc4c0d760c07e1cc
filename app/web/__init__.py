"""The HTTP interface: the webhook endpoint for Lytics and the API for operators. It contains no business rules."""
