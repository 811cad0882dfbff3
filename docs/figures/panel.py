"""Takes the landing page's picture of the shop's panel, in light and in dark: `python docs/figures/panel.py [FOLDER]`.

It starts the example shop with FastAPI, searches, clicks and signs in there with Chromium, and keeps what the panel at
the foot of the page shows then. Needs selenium, and Chromium with its driver.
"""

from __future__ import annotations

import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

DOCS = pathlib.Path(__file__).parent.parent
STATIC = DOCS / "_static"
WIDTH, HEIGHT = 980, 350
IS_FULL = "return document.getElementById('received').dataset.events === '3'"  # events arrive within a second


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(url: str) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"the shop did not start: {url}")


def visit(driver: Chrome, url: str) -> None:
    """What a visitor does: accept the cookie, search, click, put into the cart, sign in."""
    driver.get(url)
    driver.find_element(By.ID, "consent-accept").click()
    driver.get(f"{url}/?q=shoe")
    driver.find_element(By.CSS_SELECTOR, ".hit a").click()
    driver.find_element(By.CSS_SELECTOR, "form[action='/cart/add'] button").click()
    driver.get(f"{url}/login")
    driver.find_element(By.ID, "login-submit").click()
    driver.get(f"{url}/?q=bag")


def take(folder: pathlib.Path) -> None:
    """Write panel-light.png and panel-dark.png into a folder."""
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(flag)
    port = free_port()
    shop = subprocess.Popen([sys.executable, str(DOCS / "examples" / "fastapi" / "app.py"), "--port", str(port)])
    try:
        wait_for(f"http://127.0.0.1:{port}/")
        driver = Chrome(options, ChromeService(shutil.which("chromedriver")))
        try:
            visit(driver, f"http://127.0.0.1:{port}")
            driver.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False},
            )
            for scheme in ("light", "dark"):
                driver.execute_cdp_cmd(
                    "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
                )
                driver.get(f"http://127.0.0.1:{port}/?q=bag")
                driver.find_element(By.CSS_SELECTOR, "#panel summary").click()
                WebDriverWait(driver, 15).until(lambda driver: driver.execute_script(IS_FULL))
                driver.execute_script(
                    "panel.style.margin = '12px'; document.body.replaceChildren(panel); scrollTo(0, 0)"
                )
                driver.save_screenshot(str(folder / f"panel-{scheme}.png"))
        finally:
            driver.quit()
    finally:
        shop.terminate()
        shop.wait()


if __name__ == "__main__":
    take(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else STATIC)
