"""One file per model family. docs/engines.md shows how to add the next."""
