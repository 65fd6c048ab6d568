"""Run a program that does not outlive the process that started it: ``launcher.py PARENT_PID PROGRAM ARGUMENT...``.

Triton, and the commands that the studio runs, are started through this file because asking for a signal at the parent's
death has to happen between fork and exec, where a parent with threads must run no Python of its own. The program
replaces this process, so its process id is the one the parent knows. Standard library only.

Linux ties the signal to the parent's *thread*: it also comes when the thread that started the program ends.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def bound_to_this_process(command: Sequence[str]) -> list[str]:
    """A command that is sent SIGTERM when the thread that starts it ends, even by SIGKILL; it begins with a path.

    Elsewhere than on Linux, which alone has such a signal, the command as it is.
    """
    if sys.platform != "linux":
        return [*command]
    # -I -S: the launcher needs the standard library alone, and starts faster without the rest.
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main() -> None:
    """Become the program, unless the parent is gone already."""
    parent, program, *arguments = sys.argv[1:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != int(parent):  # it died before the signal was asked for
        sys.exit("the starting process is gone")
    os.execv(program, [program, *arguments])


if __name__ == "__main__":
    main()
