"""Small parts that know nothing of speech: clock, backoff, logs, metrics."""
