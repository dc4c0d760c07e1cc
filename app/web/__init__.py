"""The HTTP interface: the webhook for Lytics and the API for operators. It takes no decisions of its own."""
