"""What an engine that is started here is told: the settings that are its own, as its arguments."""

from __future__ import annotations

from cosygate.settings import Settings


def engine_arguments(settings: Settings) -> list[str]:
    """For `python -m cosygate.engine`: what it recognises with."""
    arguments = ["--recogniser", settings.recogniser]
    if settings.recogniser == "command":
        arguments += ["--command", settings.command, "--command-timeout", str(settings.command_timeout_s)]
    folders = {"model": settings.model_dir, "speakers": settings.speakers_dir, "punctuation": settings.punctuation_dir}
    arguments += [f"--{what}-dir={folder}" for what, folder in folders.items() if folder]
    arguments += ["--num-threads", str(settings.num_threads)]
    return arguments + (["--script", str(settings.script)] if settings.script is not None else [])


def engine_start_s(settings: Settings) -> float:
    """How long it may take: a large model is tried, then loaded."""
    return 180.0 if any((settings.model_dir, settings.speakers_dir, settings.punctuation_dir)) else 30.0
