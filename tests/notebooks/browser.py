"""A headless Chromium, driven over its DevTools protocol, and a headless JupyterLab for it to open."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import websocket  # comes with jupyter_server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"),
    # Whatever is not this machine cannot be reached: a page that needs the network fails its test.
    *("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1", "--window-size=1300,1600"),
)


class Page:
    """One tab."""

    def __init__(self, address: str, timeout: float) -> None:
        self.socket = websocket.create_connection(address, timeout=timeout, suppress_origin=True)
        self.count = 0
        self.requests: list[str] = []
        self.call("Page.enable")
        self.call("Network.enable")

    def call(self, method: str, **params: object) -> dict:
        """Call a method of the protocol and return its result; requests seen meanwhile are noted."""
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("method") == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            if message.get("id") == self.count:
                assert "error" not in message, message["error"]
                return message["result"]

    def open(self, url: str) -> None:
        """Go to an address and wait until its document is there."""
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, expression: str) -> object:
        """The value of a JavaScript expression (promises are awaited)."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, condition: str, seconds: int = 150) -> None:
        """Wait until a JavaScript condition holds."""
        script = f"""new Promise((done, fail) => {{
            const end = Date.now() + {seconds * 1000};
            const look = () => ({condition}) ? done(true)
                : Date.now() > end ? fail(new Error('never true: ' + {json.dumps(condition)})) : setTimeout(look, 100);
            look();
        }})"""
        self.evaluate(script)

    def press_save(self) -> None:
        """Control and S."""
        key = {"modifiers": 2, "windowsVirtualKeyCode": 83, "code": "KeyS", "key": "s"}
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, **key)

    def screenshot(self, path: Path) -> None:
        """What is seen, as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def chromium(profile: Path, timeout: float = 200) -> Iterator[Page]:
    """A tab of a fresh browser."""
    assert CHROMIUM, "chromium is not installed"
    command = [CHROMIUM, *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
    with _running(command, cwd=None) as process:
        # "DevTools listening on ws://127.0.0.1:PORT/devtools/browser/ID"
        line = _line_with(process, "DevTools listening on ")
        port = line.split("127.0.0.1:")[1].split("/")[0]
        browser = websocket.create_connection(line.split(" on ")[1].strip(), timeout=timeout, suppress_origin=True)
        browser.send(json.dumps({"id": 1, "method": "Target.createTarget", "params": {"url": "about:blank"}}))
        message = json.loads(browser.recv())
        while message.get("id") != 1:
            message = json.loads(browser.recv())
        page = Page(f"ws://127.0.0.1:{port}/devtools/page/{message['result']['targetId']}", timeout)
        yield page


@contextmanager
def jupyterlab(root: Path, home: Path) -> Iterator[str]:
    """A JupyterLab on a folder; gives its address. Nothing of the user's own Jupyter settings is read or written."""
    folders = {name: str(home / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    environment = {**os.environ, **folders, "HOME": str(home), "JUPYTERLAB_SETTINGS_DIR": str(home / "settings")}
    environment["JUPYTERLAB_WORKSPACES_DIR"] = str(home / "workspaces")
    command = [
        *(sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", f"--ServerApp.root_dir={root}"),
        *("--IdentityProvider.token=", "--ServerApp.port=0", "--ServerApp.ip=127.0.0.1"),
        "--LabApp.extension_manager=readonly",
    ]
    # JupyterLab would ask whether it may fetch news.
    page_config = home / "JUPYTER_CONFIG_DIR" / "labconfig" / "page_config.json"
    page_config.parent.mkdir(parents=True, exist_ok=True)
    page_config.write_text('{"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}')
    with _running(command, cwd=root, env=environment) as process:
        line = _line_with(process, "http://127.0.0.1:")
        port = line.split("http://127.0.0.1:")[1].split("/")[0]
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _running(command: list[str], **options: object) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True, **options
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _line_with(process: subprocess.Popen, text: str) -> str:
    seen = []
    for line in process.stderr:
        seen.append(line)
        if text in line:
            # A full pipe would stop the process.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return line
    raise AssertionError(f"{process.args[0]} ended without saying {text!r}:\n{''.join(seen)}")
