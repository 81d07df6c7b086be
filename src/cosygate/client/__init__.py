"""The Python client: what the CLI uses and users' scripts import."""
