"""Subtitles worth reading: a transcript as cues, and the cues as SRT, WebVTT and TTML.

    segments ──atoms──► timed bits of text ──cutting──► lines of one speaker ──timing──► cues ──writers──► a file

The rules are those of Netflix's Timed Text Style Guide (general requirements, timing guidelines, and the language
guides for subtitles in the language that is spoken); docs/api.md tells them to users. What is said is never shortened:
where speech is faster than anyone reads, so are its cues, but each stays for a second.
"""

from cosygate.model.subtitles.timing import cues
from cosygate.model.subtitles.writers import karaoke, srt, ttml, vtt

__all__ = ["cues", "karaoke", "srt", "ttml", "vtt"]
