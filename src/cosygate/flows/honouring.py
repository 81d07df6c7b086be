"""Whether what is asked for can be had here: of the models that engines have said they have."""

from __future__ import annotations

from collections.abc import Sequence

from cosygate import errors
from cosygate.model.options import TranscribeOptions
from cosygate.ports.engine import ModelInfo


def fitting(models: Sequence[ModelInfo], options: TranscribeOptions, *, live: bool = False) -> ModelInfo | None:
    """The first that can do all of it."""
    for model in models:
        named = options.model in (None, model.name) and model.speaks(options.language)
        can = model.can_live if live else model.can
        if named and (model.live or not live) and all(map(can, options.required)):
            return model
    return None


def check_honoured(models: Sequence[ModelInfo], options: TranscribeOptions, *, live: bool = False) -> None:
    """Raises OptionUnsupported with the name of the option that no model here honours (with the others). No models:
    no engine was heard of yet, and nothing is refused: the job waits for them."""
    if not models:
        return
    left = [model for model in models if options.model in (None, model.name)]
    if not left:
        raise errors.OptionUnsupported("no engine here has this model; see GET /v1/models", option="model")
    left = [model for model in left if model.speaks(options.language)]
    if not left:
        raise errors.OptionUnsupported("no engine here recognises this language", option="language")
    for capability, option in options.required.items():
        left = [model for model in left if (model.can_live if live else model.can)(capability)]
        if not left:
            where = f"{option} in live sessions" if live else option
            raise errors.OptionUnsupported(f"no engine here honours {where}; see GET /v1/models", option=option)
