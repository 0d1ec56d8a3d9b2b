"""A real Chromium without a window, driven through Debian's chromedriver.

It reaches 127.0.0.1 alone, under this address and as `REGISTRY`. That is a name of another host to it, and it gives the
clipboard only to pages that came by TLS or from its own host.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import SplitResult, urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.support.forked import TIMEOUT

REGISTRY = "registry.example.com"
DESKTOP, PHONE = (1280, 900), (390, 844)
SIZES = {"desktop": DESKTOP, "phone": PHONE}
Scheme = Literal["light", "dark"]

_OPTIONS = [
    "--headless=new",
    f"--host-resolver-rules=MAP {REGISTRY} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--no-first-run",
]

# Of every text that is seen: itself, and the contrast of its colour to what is behind it (WCAG 2.1, 1.4.3).
_CONTRASTS = """
const parse = (color) => (([r, g, b, a = 1]) => ({ r, g, b, a }))(color.match(/[\\d.]+/g).map(Number));
const mix = (top, below, c) => top[c] * top.a + below[c] * (1 - top.a);
const over = (top, below) => Object.fromEntries(["r", "g", "b"].map((c) => [c, mix(top, below, c)]));
const behind = (element) => {
    if (!element) return { r: 255, g: 255, b: 255 };
    return over(parse(getComputedStyle(element).backgroundColor), behind(element.parentElement));
};
const light = (color) => {
    const [r, g, b] = [color.r, color.g, color.b]
        .map((c) => c / 255)
        .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
const contrast = (element, color) => ratio(over(parse(color), behind(element)), behind(element));
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility({ visibilityProperty: true })) continue;
    found.push([walker.currentNode.data.trim().slice(0, 60), contrast(element, getComputedStyle(element).color)]);
}
for (const input of document.querySelectorAll("input[placeholder]")) {
    if (!input.checkVisibility()) continue;
    found.push([input.placeholder, contrast(input, getComputedStyle(input, "::placeholder").color)]);
}
return found;
"""


# The elements of a selector that are seen, and their texts. In a link, parts that stand side by side are one text.
_SEEN = """
const seen = [...document.querySelectorAll(arguments[0])].filter((each) => each.checkVisibility());
const textOf = (each) => (each.matches("a") ? each.textContent : each.innerText).trim();
"""


class Sent(NamedTuple):
    """A request, and which types it accepts."""

    url: SplitResult
    accept: str


class Browser:
    """One window. `look` sets its size and colours, `open` begins with an empty page and no messages."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def look(self, size: tuple[int, int] = DESKTOP, scheme: Scheme = "light") -> None:
        width, height = size
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def open(self, url: str) -> None:
        """Load a page anew, also if only the part behind # is another."""
        self.driver.get("about:blank")
        self.messages()
        self.requests()
        self.driver.get(url)

    def messages(self) -> list[str]:
        """What the console has got since the last call."""
        return [f"{each['level']}: {each['message']}" for each in self._log("browser")]

    def requests(self) -> list[Sent]:
        """Each request since the last call."""
        events = [json.loads(each["message"])["message"] for each in self._log("performance")]
        sent = [each["params"]["request"] for each in events if each["method"] == "Network.requestWillBeSent"]
        found = [Sent(urlsplit(each["url"]), each["headers"].get("Accept", "")) for each in sent]
        return [each for each in found if each.url.scheme not in ("about", "data")]

    def _log(self, kind: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.driver.get_log(kind)  # type: ignore[no-untyped-call]
        return entries

    def script(self, text: str, *arguments: Any) -> Any:
        return self.driver.execute_script(text, *arguments)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        """The text of every element that is seen."""
        found: list[str] = self.script(f"{_SEEN} return seen.map(textOf)", selector)
        return found

    def wait_for(self, selector: str, text: str) -> None:
        """Wait until an element that is seen has this text in it."""
        WebDriverWait(self.driver, TIMEOUT, 0.02).until(
            lambda _: any(text in each for each in self.texts(selector)),
            f"{selector} has not {text!r}, but {self.texts(selector)!r:.1000}",
        )

    def click(self, selector: str, text: str) -> None:
        """Click what has this text, once it is there."""
        self.wait_for(selector, text)
        self.script(f"{_SEEN} return seen.find((each) => textOf(each).includes(arguments[1]))", selector, text).click()

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def focused(self) -> str:
        """The text of what has the focus, or its label."""
        code = "const { ariaLabel, textContent } = document.activeElement; return ariaLabel ?? textContent"
        return "" if self.script("return document.activeElement === document.body") else str(self.script(code))

    def pasted(self, selector: str) -> str:
        """What comes out of the clipboard into a field, which is left empty."""
        field = self.one(selector)
        field.clear()
        field.send_keys(Keys.CONTROL, "v")
        text = field.get_property("value")
        field.clear()
        assert isinstance(text, str)
        return text

    def contrasts(self) -> list[tuple[str, float]]:
        """Every text that is seen, and its contrast."""
        return [(text, ratio) for text, ratio in self.script(_CONTRASTS)]

    def width(self) -> tuple[int, int]:
        """How wide the page is, and how wide the window."""
        page, window = self.script("return [document.documentElement.scrollWidth, innerWidth]")
        return page, window

    def screenshot(self, name: str) -> bytes:
        """What is seen, as PNG; kept in the directory that SCR_TEST_SCREENSHOTS names."""
        image = self.driver.get_screenshot_as_png()
        if directory := os.environ.get("SCR_TEST_SCREENSHOTS"):
            Path(directory).mkdir(parents=True, exist_ok=True)
            Path(directory, f"{name}.png").write_bytes(image)
        return image


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A Chromium that runs to the end of the `with`."""
    options = webdriver.ChromeOptions()
    options.binary_location = _program("chromium")
    for option in [*_OPTIONS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(_program("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


def _program(name: str) -> str:
    program = shutil.which(name)
    if program is None:
        package = {"chromedriver": "chromium-driver"}.get(name, name)
        pytest.fail(f"{name} is missing: apt-get install {package}", pytrace=False)
    return program
