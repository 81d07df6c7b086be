"""`make bench`: CosyGate side by side with the article's design and with nginx, on this machine, in one run.

Read `works/` for what is measured, `contestants.py` for whom, `stats.py` for how figures become verdicts.
"""
