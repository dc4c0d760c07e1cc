"""
What app.lytics promises.
"""
