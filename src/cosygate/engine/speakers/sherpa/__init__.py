"""Who spoke when by a model's folder, through sherpa-onnx: pyannote's segmentation, and an embedding of voices.

    pieces ──chunks──► a minute of speech ──child, hearing──► its turns, and how each of its voices sounds
                                     ──joining──► whose voices are one ──diariser──► turns of the recording

`diariser.FolderDiariser` is the door; asking.py has what it and a child say to each other; checking.py and trial.py
look whether the folder can be used, laying.py keeps turns from overlapping.
"""
