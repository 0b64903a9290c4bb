"""A process that shall not outlive the one that started it."""

import os
import signal
import threading
import time


def end_with_parent() -> None:
    """Send this process a SIGTERM, as one would by hand, as soon as its parent is gone without having ended it."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
