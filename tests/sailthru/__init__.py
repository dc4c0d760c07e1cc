"""
What app.sailthru promises.
"""
