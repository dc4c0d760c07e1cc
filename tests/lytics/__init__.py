"""What app.lytics promises."""
