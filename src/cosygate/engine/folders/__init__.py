"""Models in folders, whatever they are for: recognisers, speakers, punctuation, all of them run by sherpa-onnx.

folder.py reads a folder's description, onnx.py the metadata of its files, checking.py looks whether they are of the
family, and trying.py lets a process of its own load them: sherpa-onnx ends the one it is in on whatever it cannot use.
"""
