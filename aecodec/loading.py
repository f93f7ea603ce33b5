"""What a fork needs: one thread in the child, and a lock under which all that threads share is loaded or changed.

All of it is loaded once, and never while the process forks: what another thread has half loaded would be of no use to
the child, which would wait for it without end.
"""

import logging  # noqa: F401 - a fork takes its lock too: after ours, if ours is registered later, as loading does
import os
import sys
import threading

LOADING = threading.RLock()


def _compute_with_one_thread() -> None:
    """The threads of torch do not survive a fork: a child that shared work with them would wait for them without end.

    They may be there although this package has not used torch yet.
    """
    if (torch := sys.modules.get("torch")) and hasattr(torch, "set_num_threads"):  # it may be half imported
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # no process forks on Windows
    os.register_at_fork(before=LOADING.acquire, after_in_parent=LOADING.release, after_in_child=LOADING.release)
    os.register_at_fork(after_in_child=_compute_with_one_thread)
