"""CosyGate: a self-hosted speech gateway. Recordings in, transcripts out."""

__version__ = "0.5.0"
