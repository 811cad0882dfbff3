"""Takes the quickstart's picture of the inspector, in light and in dark: `python docs/figures/inspector.py [FOLDER]`.

It does on a LocalAlgolia what the quickstart does, opens its page in Chromium and keeps what that shows. Needs
selenium, and Chromium with its driver.
"""

from __future__ import annotations

import pathlib
import shutil
import sys

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.support.ui import WebDriverWait

from algolia_usertoken import TokenAwareClientSync, identity_scope
from algolia_usertoken.testing import LocalAlgolia

STATIC = pathlib.Path(__file__).parent.parent / "_static"
WIDTH, HEIGHT = 820, 600
RECORDS = [{"objectID": "trail", "name": "Trail shoe"}, {"objectID": "hat", "name": "Wool hat"}]


def visit(algolia: LocalAlgolia) -> None:
    """What the quickstart does: two visitors search, one of them clicks, and so does somebody who got her link."""
    algolia.save_objects("products", RECORDS)
    with TokenAwareClientSync.create_with_config(
        algolia.search_config(), insights_config=algolia.insights_config()
    ) as client:
        with identity_scope("visitor-ada"):
            found = client.search_single_index("products", {"query": "shoe", "clickAnalytics": True})
        with identity_scope("visitor-ben"):
            client.search_single_index("products", {"query": "hat", "clickAnalytics": True})
        for visitor in ("visitor-ada", "visitor-cyd"):
            with identity_scope(visitor):
                client.events.clicked_object_ids_after_search(
                    "Product Clicked", "products", ["trail"], [1], found.query_id
                )


def take(folder: pathlib.Path) -> None:
    """Write inspector-light.png and inspector-dark.png into a folder."""
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(flag)
    with LocalAlgolia() as algolia:
        visit(algolia)
        driver = Chrome(options, ChromeService(shutil.which("chromedriver")))
        try:
            driver.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False},
            )
            for scheme in ("light", "dark"):
                driver.execute_cdp_cmd(
                    "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
                )
                driver.get(algolia.url)
                WebDriverWait(driver, 15).until(lambda driver: "visitor-cyd" in driver.page_source)
                driver.save_screenshot(str(folder / f"inspector-{scheme}.png"))
        finally:
            driver.quit()


if __name__ == "__main__":
    take(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else STATIC)
