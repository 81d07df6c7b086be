"""HTTP: bytes in and out, no decisions. One file per dialect."""
