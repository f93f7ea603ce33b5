"""The lock under which all that threads share is loaded or changed: once, and never while the process forks.

Of what another thread has half loaded, a forked child could make no use, and would wait for it without end.
"""

import logging  # noqa: F401 - a fork takes its lock too: after ours, if ours is registered later, as loading does
import os
import threading

LOADING = threading.RLock()

if hasattr(os, "register_at_fork"):  # no process forks on Windows
    os.register_at_fork(before=LOADING.acquire, after_in_parent=LOADING.release, after_in_child=LOADING.release)
