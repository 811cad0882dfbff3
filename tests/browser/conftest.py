"""Real Chromium, headless. Where it does not start these tests fail; `nox -s browser` says what it needs."""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from selenium.common.exceptions import JavascriptException, StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait
from waiting import PATIENCE

from algolia_usertoken.demo import catalogue
from algolia_usertoken.testing import LocalAlgolia

# A browser of its own accord asks its maker this and that. Here it stays at home.
FLAGS = [
    "--headless",
    "--no-sandbox",  # it does not start as root with one
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]


def program(*names: str) -> str:
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail(f"there is no {' or '.join(names)} on the PATH; Debian has it as a package", pytrace=False)
    return found


class Browser:
    """A window of Chromium, with a profile of its own."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver
        self.run = driver.execute_script

    def open(self, url: str) -> None:
        self.driver.get(url)
        # Chromium's driver (150) comes back too early now and then: 22 of 512 times on a busy machine.
        self.until(lambda: self.run("return document.readyState") == "complete", f"{url} goes on loading")

    def until(self, condition: Callable[[], Any], what: str = "") -> Any:
        """What the condition returns once that is true."""

        def tried(_: Chrome) -> Any:
            try:
                return condition()
            except JavascriptException as error:  # the page is not there yet
                if "null" in str(error) or "undefined" in str(error):
                    return False
                raise

        wait = WebDriverWait(self.driver, PATIENCE, 0.05, ignored_exceptions=[StaleElementReferenceException])
        return wait.until(tried, what)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        """The first that is displayed, once there is one."""
        return self.until(
            lambda: next((found for found in self.all(selector) if found.is_displayed()), None), f"no {selector}"
        )

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector))

    def click(self, selector: str) -> None:
        self.one(selector).click()

    def cookie(self, name: str) -> str | None:
        found = self.driver.get_cookie(name)
        return found["value"] if found else None

    def look_like(self, width: int, height: int = 900, scheme: str = "light") -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )

    def complaints(self) -> list[str]:
        """What the console was told: errors of scripts, what could not be loaded, what a policy forbade."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture
def new_browser() -> Iterator[Callable[[], Browser]]:
    drivers: list[Chrome] = []

    def new_browser() -> Browser:
        options = ChromeOptions()
        options.binary_location = program("chromium", "chromium-browser", "google-chrome")
        for flag in FLAGS:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = Chrome(options, ChromeService(program("chromedriver")))
        drivers.append(driver)
        driver.set_page_load_timeout(PATIENCE)
        driver.set_script_timeout(PATIENCE)
        browser = Browser(driver)
        browser.look_like(1400)
        return browser

    yield new_browser
    for driver in drivers:
        driver.quit()


@pytest.fixture
def browser(new_browser: Callable[[], Browser]) -> Browser:
    return new_browser()


@pytest.fixture(scope="session")
def npm() -> pathlib.Path:
    """The folder node_modules with what tests/browser/package.json names."""
    folder = pathlib.Path(os.environ.get("SHOP_NPM", ""))
    if not (folder / "search-insights").is_dir():
        pytest.fail("SHOP_NPM must be a node_modules folder with search-insights; see nox -s browser", pytrace=False)
    return folder


@pytest.fixture
def algolia() -> Iterator[LocalAlgolia]:
    """A stand-in with the products that the shops sell."""
    with LocalAlgolia() as algolia:
        algolia.save_objects("products", catalogue())
        yield algolia
