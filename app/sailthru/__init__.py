"""Everything specific to Sailthru: signatures, calls, rate limits, answers, lists and members."""
