"""A page in Chromium without a window, driven over its debugging port as a user would: mouse, keys, files."""

import asyncio
import contextlib
import shutil
import subprocess

import aiohttp
import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="needs chromium; .ci/run installs it where it can")
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]


class Page:
    """A page that is open: `events` has what the browser told of it, such as requests and errors."""

    def __init__(self, socket):
        self.socket, self.events, self.calls = socket, [], 0

    async def call(self, method, **arguments):
        """Call a method of https://chromedevtools.github.io/devtools-protocol; return its result."""
        self.calls += 1
        number = self.calls
        await self.socket.send_json({"id": number, "method": method, "params": arguments})
        async with asyncio.timeout(120):
            while (answer := await self.socket.receive_json()).get("id") != number:
                self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    async def run(self, script):
        """Run JavaScript in the page; return the value of its last expression, awaited."""
        found = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def open(self, url):
        """Open `url` and wait until it is loaded."""
        await self.call("Page.navigate", url=url)
        async with asyncio.timeout(60):
            while await self.run("document.readyState") != "complete" or await self.run("location.href") != url:
                await asyncio.sleep(0.05)

    async def press(self, key):
        """Press a key."""
        text = {"text": key} if len(key) == 1 else {}
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, **text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key)

    async def draw(self, strokes):
        """Draw with the mouse; points are (x, y) in the window, in pixels."""
        for stroke in strokes:
            for kind, (x, y) in zip(["mousePressed", *["mouseMoved"] * (len(stroke) - 1)], stroke, strict=True):
                await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
            await self.call("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, button="left", clickCount=1)
        await self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def told(self, method):
        """Return the parameters of all events of a kind."""
        return [event["params"] for event in self.events if event.get("method") == method]


def in_browser(folder, steps):
    """Run the coroutine `steps(page)` on a new page; `folder` is for the browser's profile. Return its result."""

    async def run():
        async with aiohttp.ClientSession() as session:
            listed = await (await session.get(f"http://127.0.0.1:{port}/json")).json()
            address = next(page["webSocketDebuggerUrl"] for page in listed if page["type"] == "page")
            async with session.ws_connect(address, max_msg_size=0) as socket:
                page = Page(socket)
                for domain in ("Page", "Runtime", "Log", "Network"):
                    await page.call(f"{domain}.enable")
                return await steps(page)

    command = [CHROMIUM, *OPTIONS, f"--user-data-dir={folder}", "--window-size=900,900", "about:blank"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as browser:
        try:
            port = next(line for line in browser.stderr if "listening on" in line).rpartition(":")[2].partition("/")[0]
            return asyncio.run(run())
        finally:
            browser.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                browser.wait(10)
            browser.kill()
