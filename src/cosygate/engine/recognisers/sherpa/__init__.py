"""Models in folders, through sherpa-onnx: SenseVoice, Paraformer, Whisper, Moonshine and streaming zipformers.

families.py knows what each family of models needs and tells, recogniser.py is what the engine calls. sherpa-onnx ends
the process, without an exception, on a model that it cannot use: so a folder is read and checked first (engine/folders,
checking.py), then tried in a process of its own (trial.py), and only then loaded.
"""
