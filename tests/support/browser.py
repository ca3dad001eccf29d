"""A headless Chromium that is driven through its debugging protocol, over a pair of pipes."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SWITCHES = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe")


class Browser:
    """One page; a context manager.

    Attributes:
        errors: what the page threw or logged as an error.
        requests: the addresses that it asked for.
    """

    def __init__(self, profile: Path):
        (read, self._write), (self._read, write) = os.pipe(), os.pipe()

        def as_three_and_four() -> None:
            # Not straight there: one of the two may be in the other's place.
            free = [os.dup(read), os.dup(write)]
            for target, source in zip((3, 4), free, strict=True):
                os.dup2(source, target)

        self._process = subprocess.Popen(
            [CHROMIUM, *SWITCHES, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=as_three_and_four,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read)
        os.close(write)
        self._buffer, self._number, self._session = b"", 0, None
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._loaded = False
        pages = self.send("Target.getTargets")["targetInfos"]
        (target,) = (page["targetId"] for page in pages if page["type"] == "page")
        answer = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = answer["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_) -> None:
        os.close(self._write)
        os.close(self._read)
        self._process.kill()
        self._process.wait()

    def open(self, page: Path, width: int, height: int) -> None:
        """Load a file into a window of this size and wait until it is loaded."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self._loaded = False
        self.send("Page.navigate", url=page.resolve().as_uri())
        while not self._loaded:
            self._receive()

    def evaluate(self, expression: str):
        """The value of a JavaScript expression, promises awaited."""
        options = {"returnByValue": True, "awaitPromise": True}
        answer = self.send("Runtime.evaluate", expression=expression, **options)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until a JavaScript expression is true; ten seconds at most."""
        poll = f"""new Promise((done, fail) => {{
            const end = Date.now() + 10000;
            (function look() {{
                if ({condition}) done();
                else if (Date.now() > end) fail(new Error("never: " + {json.dumps(condition)}));
                else setTimeout(look, 20);
            }})();
        }})"""
        self.evaluate(poll)

    def becomes(self, expression: str, value) -> None:
        """Wait until a JavaScript expression has this value."""
        self.wait(f"JSON.stringify({expression}) === JSON.stringify({json.dumps(value)})")

    def choose(self, selector: str, value: str) -> None:
        """Choose a value of a list."""
        self.evaluate(
            f"""(() => {{
                const list = document.querySelector({json.dumps(selector)});
                list.value = {json.dumps(value)};
                list.dispatchEvent(new Event("change", {{ bubbles: true }}));
            }})()"""
        )

    def mouse(self, kind: str, x: float, y: float) -> None:
        """kind: "mousePressed", "mouseMoved" or "mouseReleased"."""
        button = {"button": "left", "buttons": 1, "clickCount": 1}
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    def key(self, name: str) -> None:
        """Press and release a key, "ArrowLeft" say."""
        codes = {"ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, "Tab": 9}
        codes |= {"Enter": 13, " ": 32}
        texts = {"Enter": "\r", " ": " "}
        for kind in ("keyDown", "keyUp"):
            options = {"key": name, "code": name, "windowsVirtualKeyCode": codes[name]}
            if name in texts:  # without it no button is pressed
                options["text"] = texts[name]
            self.send("Input.dispatchKeyEvent", type=kind, **options)

    def screenshot(self, path: Path) -> None:
        """The window as a PNG."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))

    def send(self, method: str, **parameters) -> dict:
        """Send a command of the protocol; its result."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def _receive(self) -> dict:
        while b"\0" not in self._buffer:
            part = os.read(self._read, 1 << 16)
            if not part:
                raise RuntimeError("Chromium has ended")
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(text)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method: str | None, parameters: dict) -> None:
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method in ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"):
            level = parameters.get("entry", parameters).get("level") or parameters.get("type")
            if method == "Runtime.exceptionThrown" or level == "error":
                self.errors.append(json.dumps(parameters))
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
