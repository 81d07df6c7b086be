"""One file a schema step, oldest first."""
