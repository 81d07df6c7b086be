"""CosyGate: a self-hosted speech gateway. Recordings in, transcripts out."""

__version__ = "0.4.0"
