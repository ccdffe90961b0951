"""`gsch console` as a process, and a browser that looks at it."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.harness.kube import wait_for
from tests.harness.process import ROOT

CHROMIUM = "/usr/bin/chromium"
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def console(folder: Path, *arguments: str) -> Iterator[str]:
    """A console with these options; its URL."""
    log = folder / "console.log"
    command = [sys.executable, "-m", "gsch", "console", "--port", "0", *arguments]
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file)
    try:

        def port() -> str:
            assert process.poll() is None, log.read_text()
            lines = [line for line in log.read_text().splitlines() if '"port"' in line]
            return lines[0].split('"port": ')[1].split(",")[0].rstrip("}") if lines else ""

        scheme = "https" if "--tls-cert-file" in arguments else "http"
        yield f"{scheme}://127.0.0.1:{wait_for(port)}"
    finally:
        process.terminate()
        assert process.wait(15) == 0, log.read_text()


@contextmanager
def browser() -> Iterator[Browser]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        environment = {**os.environ, "HOME": folder}
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM, args=QUIET, env=dict(environment)
            )
            yield browser
            browser.close()


class Looking:
    """A page, and everything that went wrong in it."""

    def __init__(self, browser: Browser, scheme: str = "light") -> None:
        context = browser.new_context(
            color_scheme="dark" if scheme == "dark" else "light",
            viewport={"width": 1280, "height": 900},
            reduced_motion="reduce",
        )
        self.page: Page = context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "console", lambda line: self.errors.append(line.text) if line.type == "error" else None
        )

    def open(self, url: str) -> Page:
        """The page, once its charts are drawn."""
        self.page.goto(url)
        self.drawn()
        return self.page

    def drawn(self) -> None:
        # Not wait_for_function: where it looks more than once, the page's policy forbids it.
        expect(self.page.locator(".chart:not([aria-busy=false])")).to_have_count(0, timeout=30_000)
