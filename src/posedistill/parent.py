"""End a process when its parent dies."""

import os
import signal
import threading
import time


def end_with_parent(parent: int | None = None) -> None:
    """Send this process a SIGTERM once its parent is gone: a parent that was killed cannot end its children.

    parent: process id, where the parent may already have died before this call; default: the present parent.
    """
    parent = os.getppid() if parent is None else parent

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
