"""What app.sailthru promises."""
