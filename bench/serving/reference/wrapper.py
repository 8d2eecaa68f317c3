"""Run a program as `conda run` does: a process of its own that starts the program, passes signals on and waits.

conda itself also imports itself and builds an activation script first; that part is missing here, in favour of the
reference.
"""

from __future__ import annotations

import signal
import subprocess
import sys

with subprocess.Popen(sys.argv[1:]) as child:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: child.send_signal(received))
    sys.exit(child.wait())
