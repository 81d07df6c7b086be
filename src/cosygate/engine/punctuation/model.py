"""Loads the model of a folder."""

from __future__ import annotations

import sherpa_onnx

from cosygate.engine.folders.folder import ModelFolder
from cosygate.engine.punctuation.checking import MODEL


def load(folder: ModelFolder) -> sherpa_onnx.OfflinePunctuation:
    """Ends the process when sherpa-onnx cannot use the model (see trial.py). For several threads at once; it gives up
    Python's lock while it works."""
    model = sherpa_onnx.OfflinePunctuationModelConfig(ct_transformer=str(folder.files[MODEL]), num_threads=1)
    return sherpa_onnx.OfflinePunctuation(sherpa_onnx.OfflinePunctuationConfig(model))
