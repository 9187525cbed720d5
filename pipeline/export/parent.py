"""For worker processes: end when the parent does."""

import os
import sys
import threading


def follow_parent() -> str:
    """Take the parent's line from stdin, and from then on leave as soon as stdin closes.

    A parent that was killed must not leave a process behind that fills the disk.
    """
    line = sys.stdin.readline()
    threading.Thread(target=_leave_with_stdin, daemon=True).start()
    return line


def _leave_with_stdin() -> None:
    # Not through sys.stdin: a thread that waits in there blocks the interpreter's own exit.
    while os.read(0, 4096):
        pass
    os._exit(1)
