"""Models in folders, through sherpa-onnx: SenseVoice, Paraformer, Whisper, Moonshine and streaming zipformers.

folder.py reads and checks a folder, families.py knows what each family of models needs and tells, recogniser.py is what
the engine calls. sherpa-onnx ends the process, without an exception, on a model that it cannot use: so a folder is
checked first (folder.py, onnx.py), then tried in a process of its own (trial.py), and only then loaded.
"""
