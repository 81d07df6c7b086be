"""CosyGate: a self-hosted speech gateway. Recordings and live speech in, transcripts out."""

__version__ = "0.1.0"
