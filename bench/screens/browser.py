"""Chromium without a window or a network, which shows pages and drawings."""

import base64
import contextlib
import io
import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from .sources import Spec, Theme

SECONDS = 20  # that Chromium may take over a command


class ScreensError(Exception):
    """Why nothing can be drawn, in a sentence, with the command that helps."""


class Browser:
    """Chromium without a window or a network, commanded through a pipe."""

    def __init__(self, process: "subprocess.Popen[bytes]", folder: Path):
        assert process.stdin
        assert process.stdout
        self._commands, self._answers = process.stdin, process.stdout
        self._read = b""
        self._number = 0
        self.folder = folder  # for files that it is to show

    def open(self, address: str, spec: Spec, theme: Theme | None, least_text: float) -> Image.Image | None:
        """A page as a screen shows it, somewhere along its length.

        None where it takes too long, or where lines of text cover less than that share of what is seen.
        """
        target = self._call("Target.createTarget", url="about:blank")
        try:
            tab = self._call("Target.attachToTarget", flatten=True, **target)["sessionId"]
            return self._look(tab, address, spec, theme, least_text)
        except TimeoutError:
            return None
        finally:
            self._call("Target.closeTarget", **target)

    def _look(self, tab: str, address: str, spec: Spec, theme: Theme | None, least_text: float) -> Image.Image | None:
        view = {"width": spec.width, "height": spec.height, "deviceScaleFactor": spec.scale, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", tab, **view)
        if "errorText" in self._call("Page.navigate", tab, url=address):
            return None
        deadline = time.monotonic() + SECONDS
        while self._evaluate(tab, "document.readyState") != "complete":
            if time.monotonic() > deadline:
                return None
            time.sleep(0.02)
        random = Random(spec.seed)
        place = random.choice((0, random.random()))
        covered = self._evaluate(tab, f"({LOOK})({json.dumps(css(theme) if theme else '')}, {spec.zoom}, {place})")
        if covered < least_text:
            return None
        data = base64.b64decode(self._call("Page.captureScreenshot", tab, format="png")["data"])
        return Image.open(io.BytesIO(data)).convert("RGB")

    def _evaluate(self, tab: str, expression: str) -> Any:
        answer = self._call("Runtime.evaluate", tab, expression=expression, awaitPromise=True, returnByValue=True)
        return answer["result"].get("value")

    def _call(self, method: str, tab: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Chromium's answer to a command. Raises ScreensError or TimeoutError where there is none."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters} | ({"sessionId": tab} if tab else {})
        try:
            self._commands.write(json.dumps(command).encode() + b"\0")
        except OSError:
            raise ScreensError("Chromium has ended") from None
        while (answer := json.loads(self._message())).get("id") != self._number:
            pass  # news, and answers that came too late
        if "error" in answer:
            raise ScreensError(f"Chromium: {method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _message(self) -> bytes:
        while b"\0" not in self._read:
            if not select.select([self._answers], [], [], SECONDS)[0]:
                raise TimeoutError
            more = self._answers.read(1 << 20)
            if not more:
                raise ScreensError("Chromium has ended")
            self._read += more
        message, _, self._read = self._read.partition(b"\0")
        return message


@contextlib.contextmanager
def browse(fonts: Sequence[str], generic: tuple[str, str, str]) -> Iterator[Browser]:
    """A Browser that sees these font files alone, of which families are serif, sans-serif and monospace."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as kept:
        folders = "".join(f"<dir>{folder}</dir>" for folder in sorted({Path(font).parent for font in fonts}))
        names = (("serif", "Times New Roman"), ("sans-serif", "Arial"), ("monospace", "Courier New"))
        aliases = "".join(
            f'<alias binding="same"><family>{name}</family><prefer><family>{family}</family></prefer></alias>'
            for family, both in zip(generic, names, strict=True)
            for name in both
        )
        configuration = Path(kept, "fonts.conf")
        configuration.write_text(
            f"<fontconfig>{folders}<cachedir>{kept}/fonts</cachedir>{aliases}</fontconfig>", "utf-8"
        )
        flags = (
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
            *("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={kept}/profile", "--remote-debugging-pipe"),
        )
        # Chromium reads commands from file 3 and answers on file 4
        start = ["sh", "-c", 'exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1', "chromium", *flags]
        environment = os.environ | {"FONTCONFIG_FILE": str(configuration)}
        with subprocess.Popen(
            start, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        ) as process:
            try:
                yield Browser(process, Path(kept))
            except TimeoutError:
                raise ScreensError("Chromium does not answer") from None
            finally:
                process.terminate()


# sets style, zoom and place, lets nothing move, waits for fonts, and says what share of the view lines of text cover
LOOK = """async (css, zoom, place) => {
  const style = document.createElement("style");
  style.textContent = css + "* {transition: none !important; animation: none !important}";
  document.documentElement.append(style);
  document.documentElement.style.zoom = zoom;
  await document.fonts.ready;
  for (const part of document.querySelectorAll(css ? "body *" : "none"))
    if (["fixed", "sticky"].includes(getComputedStyle(part).position))
      part.style.setProperty("background-color", getComputedStyle(document.body).backgroundColor, "important");
  window.scrollTo({top: place * (document.documentElement.scrollHeight - innerHeight), behavior: "instant"});
  await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
  const range = document.createRange(), texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let area = 0;
  while (texts.nextNode()) {
    if (!texts.currentNode.data.trim()) continue;
    range.selectNodeContents(texts.currentNode);
    for (const box of range.getClientRects()) {
      const width = Math.min(box.right, innerWidth) - Math.max(box.left, 0);
      const height = Math.min(box.bottom, innerHeight) - Math.max(box.top, 0);
      area += Math.max(width, 0) * Math.max(height, 0);
    }
  }
  return area / (innerWidth * innerHeight);
}"""


def css(theme: Theme) -> str:
    """The theme's rules, which come before a page's own."""
    return (
        f"html, body {{background: {theme.ground} !important}}"
        f"* {{color: inherit !important; background-color: transparent !important; text-shadow: none !important;"
        f" border-color: {theme.box} !important; font-family: '{theme.text}', sans-serif !important}}"
        f"html {{color: {theme.ink} !important}} body {{padding: 8px}}"
        f"a, a * {{color: {theme.link} !important}}"
        f"h1, h1 *, h2, h2 *, h3, h3 * {{color: {theme.heading} !important}}"
        f"pre, code, th, .note, .admonition {{background-color: {theme.box} !important}}"
        f"pre, pre *, code, code *, tt, kbd {{font-family: '{theme.code}', monospace !important}} {theme.extra}"
    )
