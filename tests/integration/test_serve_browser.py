"""The page in a real browser: by mouse and by keyboard, wide and narrow, light and dark. Screenshots are left in pytest's folder (``--basetemp``)."""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from .needs import needs
from .serving import served, trained

CAPTION = "a small red circle at the top left"
#: CSS colours in pairs that are read on each other.
PAIRS = [
    ("--text", "--page"),
    ("--text", "--card"),
    ("--soft", "--page"),
    ("--soft", "--card"),
    ("--text", "--note"),
    ("--accent", "--card"),
    ("--on-accent", "--accent"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs(
        "Chromium and its driver (apt install chromium chromium-driver)",
        shutil.which("chromium") is not None and shutil.which("chromedriver") is not None,
    )
    needs("selenium (pip install selenium)", find_spec("selenium") is not None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IBLLM_BLOCK", "rehearsal,report")
        return trained(tmp_path_factory.mktemp("serve"))


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    with served(run) as (url, _):
        yield url


@contextmanager
def started() -> Iterator[Any]:
    """A browser without a window."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1100,1400"):
        options.add_argument(argument)
    options.binary_location = shutil.which("chromium") or ""
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    driver.implicitly_wait(0)
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def browser() -> Iterator[Any]:
    with started() as driver:
        yield driver


class Page:
    """The page, and what one does with it."""

    def __init__(self, browser: Any, address: str) -> None:
        self.browser = browser
        browser.get(address)
        self.until("return !document.querySelector('#main').hidden")

    def until(self, script: str, seconds: float = 30) -> Any:
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.browser, seconds, 0.05).until(lambda browser: browser.execute_script(script))

    def find(self, css: str) -> Any:
        return self.browser.find_element("css selector", css)

    def texts(self, css: str) -> list[str]:
        return [each.text for each in self.browser.find_elements("css selector", css)]

    def settled(self, section: str) -> None:
        """Waits until a section has played what it was told to."""
        self.until(
            f"const s = document.querySelector('#{section}'); return !s.hasAttribute('aria-busy') && !s.querySelector('.said .error')"
        )

    def emulate(self, scheme: str, width: int) -> None:
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def shoot(self, path: Path) -> None:
        shot = self.browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        path.write_bytes(base64.b64decode(shot["data"]))


@pytest.fixture
def page(browser: Any, address: str) -> Page:
    return Page(browser, address)


def test_one_draws_reads_asks_and_goes_round(page: Page, tmp_path: Path) -> None:
    page.find("#text").send_keys(CAPTION)
    page.find("#draw button.main").click()
    page.settled("draw")
    assert len(page.texts(".drawn li")) == 4
    page.find(".drawn button").click()
    page.find("#caption").click()
    page.settled("read")
    assert page.texts(".log li")[0].startswith("caption:")
    page.find("#question").send_keys("what colour is the circle?")
    page.find("#ask button").click()
    page.settled("read")
    page.find("#invent").click()
    page.settled("read")
    page.find("#score").click()
    page.settled("read")
    logged = page.texts(".log li")
    assert len(logged) == 4 and "log p(text | image)" in logged[0] and logged[1].startswith("the model asks:")
    page.find("#from-text").click()
    page.until("return document.querySelectorAll('.legs li').length === 3 && !document.querySelector('.legs .waiting')")
    assert [text.splitlines()[0] for text in page.texts(".legs li")] == ["yours", "the model drew", "the model read"]
    page.find("#from-image").click()
    page.until("return document.querySelectorAll('.legs img').length === 2 && !document.querySelector('.legs .waiting')")
    assert [text.splitlines()[0] for text in page.texts(".legs li")] == ["yours", "the model read", "the model drew"]
    assert [entry for entry in page.browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    loaded = page.browser.execute_script(
        "return performance.getEntriesByType('resource').map(e => new URL(e.name)).filter(u => u.protocol !== 'data:').map(u => u.origin)"
    )
    assert set(loaded) == {page.browser.execute_script("return location.origin")}
    for scheme, width in [("light", 1100), ("dark", 1100), ("light", 390), ("dark", 390)]:
        page.emulate(scheme, width)
        page.shoot(tmp_path / f"{scheme}-{width}.png")


def test_a_file_of_any_size_is_read_and_a_large_one_made_smaller(page: Page, tmp_path: Path) -> None:
    Image.effect_noise((3000, 2500), 90).convert("RGB").save(tmp_path / "large.png")
    page.find("#file").send_keys(str(tmp_path / "large.png"))
    page.settled("read")
    assert page.texts("#read .said p") == ["the image was made smaller before it is sent: 1024 × 853"]
    page.find("#caption").click()
    page.settled("read")
    assert len(page.texts(".log li")) == 1
    (tmp_path / "none.png").write_bytes(b"no image")
    page.find("#file").send_keys(str(tmp_path / "none.png"))
    page.until("return document.querySelector('#read .said .error')?.textContent === 'none.png is no image that the browser can read'")


def test_an_image_may_be_dropped(page: Page) -> None:
    file = io.BytesIO()
    Image.new("RGB", (50, 40), "red").save(file, "PNG")
    page.browser.execute_script(
        """
        const bytes = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0)), data = new DataTransfer();
        data.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
        document.querySelector("#drop").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
        """,
        base64.b64encode(file.getvalue()).decode(),
    )
    page.until("return document.querySelector('#file-name').textContent === 'dropped.png'")


def test_the_keyboard_is_enough(page: Page) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    active = page.browser.switch_to.active_element
    assert active.get_attribute("id") == "text"
    active.send_keys(CAPTION, Keys.ENTER)
    page.settled("draw")
    page.until("return document.querySelectorAll('.drawn li').length === 4")
    reached = []
    for _ in range(60):
        ActionChains(page.browser).send_keys(Keys.TAB).perform()
        here = page.browser.switch_to.active_element
        reached.append(here.get_attribute("id") or here.get_attribute("aria-label") or here.text)
        if reached[-1] == "from-text":
            break
    for name in ("file", "caption", "question", "invent", "score"):
        assert name in reached
    assert any(name.startswith("Read ") for name in reached) and any(name.startswith("Save ") for name in reached)
    assert page.browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.browser.switch_to.active_element.send_keys(Keys.ENTER)
    page.until("return document.querySelectorAll('.legs li').length === 3 && !document.querySelector('.legs .waiting')")


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1100])
def test_it_is_read_in_light_and_dark_on_a_phone_too(page: Page, scheme: str, width: int) -> None:
    page.emulate(scheme, width)
    assert page.browser.execute_script("return document.documentElement.scrollWidth") <= width
    small = page.browser.execute_script(
        """
        return [...document.querySelectorAll('button, input:not(.vh), textarea, summary')]
          .filter((each) => each.offsetParent && each.getBoundingClientRect().height < 32).map((each) => each.id || each.textContent)
        """
    )
    assert small == []
    style = page.browser.execute_script(
        "const s = getComputedStyle(document.documentElement); return Object.fromEntries(arguments[0].map(n => [n, s.getPropertyValue(n).trim()]))",
        sorted({name for pair in PAIRS for name in pair}),
    )
    for front, back in PAIRS:
        bright, dim = sorted((luminance(style[front]), luminance(style[back])), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= 4.5, (front, back)  # WCAG 2.2, 1.4.3


def test_a_token_is_asked_for(run: Path, browser: Any) -> None:
    with served(run, "--token", "open-sesame") as (url, _):
        browser.get(url)
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(browser, 10).until(lambda browser: browser.execute_script("return document.querySelector('#token-dialog').open"))
        browser.find_element("css selector", "#token").send_keys("wrong-token\n")
        WebDriverWait(browser, 10).until(lambda browser: browser.execute_script("return document.querySelector('#token-dialog').open"))
        field = browser.find_element("css selector", "#token")
        field.clear()
        field.send_keys("open-sesame\n")
        WebDriverWait(browser, 10).until(lambda browser: browser.execute_script("return !document.querySelector('#main').hidden"))
