"""The pictures of the page in docs/how-to/serve.md: ``python -m tests.integration.page_picture runs/joint docs/pictures``."""

from __future__ import annotations

import sys
from pathlib import Path

from .serving import served
from .test_serve_browser import Page, started

CAPTION = "a small red circle at the top left and a large blue ring at the bottom right"


def main(run: Path, folder: Path) -> None:
    with served(run) as (address, _), started() as browser:
        page = Page(browser, address)
        page.emulate("light", 900)
        page.find("#text").send_keys(CAPTION)
        page.find("#draw button.main").click()
        page.until("return document.querySelectorAll('.drawn li').length === 4")
        page.find(".drawn button").click()
        for button in ("#caption", "#score"):
            page.find(button).click()
            page.settled("read")
        page.find("#from-text").click()
        page.until("return document.querySelectorAll('.legs li').length === 3 && !document.querySelector('.legs .waiting')")
        browser.execute_script("document.activeElement.blur()")
        page.until("return document.getAnimations().length === 0")
        for scheme in ("light", "dark"):
            page.emulate(scheme, 900)
            page.shoot(folder / f"page-{scheme}.png")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
