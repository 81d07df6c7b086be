"""The variables that the command line reads, beside the settings: of options that belong to a command."""

from __future__ import annotations

# Options of `cosygate transcribe`, `live` and `token` that have a variable, too.
OF_COMMANDS = frozenset(
    {"SERVER", "TOKEN", "FORMAT", "OUT", "LANGUAGE", "MODEL", "CHANNELS", "SUB", "SCOPE", "TENANT", "TTL"}
    | {"MIC", "SPEED", "RATE", "AUDIO_FORMAT", "PARTIALS", "OUT_FILE", "OUTPUT_FORMAT", "NAME", "JTI"}
    | {"DAY_S", "MONTH_S", "LIVE", "MIGRATE_FROM", "MIGRATE_BLOBS"}
    | {"WORDS", "DIARIZE", "NUM_SPEAKERS", "MAX_SPEAKERS", "HOTWORDS"}
    | {"HTML", "JSON", "ONLY", "LIMIT", "SEED"}
    | {"MODELS_DIR", "MODELS_MIRROR", "MODELS_FROM", "MODELS_CATALOGUE"}
)
