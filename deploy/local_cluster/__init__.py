"""A whole installation as processes of this machine: `deploy/local-cluster` starts it, and tests do."""
