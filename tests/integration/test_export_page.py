"""The page that an export writes, opened from the disk in a real browser: it draws, reads and tells what the model does not see.

Needs ``pip install 'ibllm[export]' selenium``, ``apt install chromium chromium-driver`` and ``npm``, which fetches onnxruntime-web.
Screenshots are left in pytest's folder (``--basetemp``).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ibllm_cli.main import main
from PIL import Image

from tests.export.untrained import untrained

from .needs import needs

CAPTION = "a small red circle at the top left"
#: Texts that a tokenizer may stumble over.
ODD = ["", "  two   blanks ", "don't, (really)…", "三个红色的圆 and a cross", "naïve café №5 ½", "line\nbreak\t\ttab", "😀 x"]


@pytest.fixture(scope="module", params=["word", "bpe"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs(
        "Chromium and its driver (apt install chromium chromium-driver)",
        shutil.which("chromium") is not None and shutil.which("chromedriver") is not None,
    )
    for name in ("selenium", "onnx", "onnxruntime", "onnxscript"):
        needs(f"{name} (pip install)", find_spec(name) is not None)
    needs("npm", shutil.which("npm") is not None)
    place = tmp_path_factory.mktemp(request.param)
    packed = subprocess.run(["npm", "pack", "--silent", "onnxruntime-web@1.30.0"], cwd=place, capture_output=True, text=True, check=False)
    needs(f"onnxruntime-web by npm ({packed.stderr.strip()[-80:]})", packed.returncode == 0)
    tables = {"model": {}, "tokenizers": {"text": {"use": request.param, "size": 300 if request.param == "bpe" else 48, "max_length": 24}}}
    model = untrained(place, tables)
    assert main(["export", str(model), "--page", str(place / packed.stdout.strip()), "-o", str(place / "out")]) == 0
    return place / "out"


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1000,1300"):
        options.add_argument(argument)
    options.binary_location = shutil.which("chromium") or ""
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_script_timeout(120)
    try:
        driver.get((folder / "page.html").as_uri())
        WebDriverWait(driver, 120).until(lambda d: d.find_element("tag name", "body").get_attribute("data-ready"))
        assert driver.find_element("tag name", "body").get_attribute("data-ready") == "yes", driver.find_element("id", "state").text
        yield driver
    finally:
        driver.quit()


def asked(browser: Any, what: str, *given: Any) -> Any:
    """What the page's worker answers."""
    script = "const done = arguments[2]; call(arguments[0], arguments[1]).then(done, (error) => done({ error: error.message }));"
    return browser.execute_async_script(script, what, list(given))


def test_texts_become_the_ids_that_the_program_beside_it_reads(browser: Any, folder: Path) -> None:
    from ibllm_export.run_onnx import Exported

    exported = Exported(folder)
    for text in (CAPTION, *ODD):
        ids, _ = exported.encode(exported.as_read([text])[0] if text else [text])
        assert asked(browser, "encode", text)["ids"] == ids[0].tolist(), text


def test_a_picture_is_read_as_by_the_program_beside_it(browser: Any, folder: Path, tmp_path: Path) -> None:
    from ibllm_export.run_onnx import Exported
    from selenium.webdriver.support.ui import WebDriverWait

    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "seen.png")
    browser.find_element("id", "file").send_keys(str(tmp_path / "seen.png"))
    expected = " ".join(Exported(folder).caption(pixels[None])[0].split())
    WebDriverWait(browser, 60).until(lambda d: d.find_element("id", "caption").text or not expected)
    assert " ".join(browser.find_element("id", "caption").text.split()) == expected
    assert "32 × 32" in browser.find_element("id", "drop-text").text


def test_a_caption_is_drawn_as_often_as_asked_and_equal_seeds_give_equal_drawings(browser: Any, folder: Path) -> None:
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    text = browser.find_element("id", "text")
    text.clear()
    text.send_keys(f"{CAPTION} zyzzyva", Keys.ENTER)
    WebDriverWait(browser, 120).until(lambda d: len(d.find_elements("css selector", "#drawn li p")) == 4)
    first, again = (asked(browser, "generate", CAPTION, 3)["image"] for _ in range(2))
    values = np.array(list(first.values()) if isinstance(first, dict) else first)
    assert first == again and values.shape == (3 * 32 * 32,) and np.isfinite(values).all() and values.std() > 0
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not severe
    if (folder / "tokenizer-text.json").read_text().startswith('{"kind": "word"'):
        assert "Never seen in training, so nothing can be known of it: zyzzyva." in browser.find_element("id", "draw-said").text
    text.clear()
    text.send_keys(Keys.ENTER)
    assert "nothing is drawn of an empty one" in browser.find_element("id", "draw-said").text
    assert not browser.find_elements("css selector", "#drawn li")
    browser.save_screenshot(str(folder.parent / "page.png"))


def test_a_file_that_is_no_picture_is_told(browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    (tmp_path / "words.png").write_text("no picture")
    browser.find_element("id", "file").send_keys(str(tmp_path / "words.png"))
    WebDriverWait(browser, 30).until(lambda d: "no picture" in d.find_element("id", "read-said").text)
