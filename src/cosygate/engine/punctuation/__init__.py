"""Punctuation for texts without it, by a model's folder through sherpa-onnx (CT-Transformer).

punctuated.py is the door: a recogniser around another one. marks.py puts what the model says into text and words,
checking.py and trial.py look whether the folder can be used.
"""
