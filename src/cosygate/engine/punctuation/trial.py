"""`python -m cosygate.engine.punctuation.trial FOLDER THREADS PARENT`: loads the model and lets it punctuate a text.

A process of its own, because sherpa-onnx may end it. Status 0: it could be used. Dies with PARENT.
"""

import sys
from pathlib import Path

from cosygate.engine.punctuation.checking import checked
from cosygate.engine.punctuation.marks import marks_of
from cosygate.engine.punctuation.model import load
from cosygate.kit.lineage import die_with_parent

_TEXT = "今天天气怎么样 hello world it is a fine day " * 10


def main(path: str, _: str, parent: str) -> int:
    if not die_with_parent(int(parent)):
        return 1
    try:
        said = load(checked(Path(path))).add_punctuation(_TEXT)
        if marks_of(_TEXT, said) is None:
            sys.exit("it does not give back the text that it should punctuate")
    except Exception as error:
        sys.exit(str(error))  # prints it; the stack is of no use to anybody
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
