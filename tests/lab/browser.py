"""A headless Chromium for tests, if the machine has one."""

import json
import shutil

import pytest

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
]


class Browser:
    """What the tests do in it."""

    def __init__(self, profile):
        webdriver = pytest.importorskip("selenium.webdriver")
        chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
        if not (chromium and driver):
            pytest.skip("no chromium and chromedriver on this machine")
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in [*FLAGS, f"--user-data-dir={profile}"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.ChromeService(executable_path=driver)
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.set_script_timeout(60)

    def open(self, page, width=1280, scheme="light"):
        """A file or an address, on a screen of this width (phones are mobile), light or dark."""
        from selenium.webdriver.support.wait import WebDriverWait

        self.show(width, scheme)
        self.driver.get(page if isinstance(page, str) else page.as_uri())
        # of a page that has just been printed `get` may return while it still loads
        loaded = "return document.readyState === 'complete'"
        WebDriverWait(self.driver, 60, 0.02).until(lambda driver: driver.execute_script(loaded))

    def show(self, width, scheme):
        """What is open, on another screen."""
        screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    def ask(self, script, *arguments):
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def scroll_through(self):
        """From top to bottom, a screen at a time, at the pace of the page's own frames."""
        self.driver.execute_async_script(
            """
            const done = arguments[0];
            function next(y) {
              if (y > document.documentElement.scrollHeight) return done();
              scrollTo(0, y);
              requestAnimationFrame(() => setTimeout(() => next(y + 400), 30));
            }
            next(0);
            """
        )

    def complaints(self):
        """Of the console, since last asked."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self):
        """Addresses that the page asked the network for, since last asked."""
        messages = [
            json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")
        ]
        sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        asked = [params["request"]["url"] for params in sent]
        return [url for url in asked if url.startswith(("http", "ws"))]
