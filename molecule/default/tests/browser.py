# ruff: noqa: INP001, S101 # found by molecule's tests in their own folder
"""Airflow's pages in a real browser: Debian's Chromium, without a window."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.ui import WebDriverWait

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium.webdriver.remote.webelement import WebElement

_SECONDS = 90
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,800",
)


@contextmanager
def forwarded(kubeconfig: Path, namespace: str, service: str, port: int) -> Iterator[str]:
    """Reach a service of the cluster at an address of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        here = free.getsockname()[1]
    command = [
        "kubectl",
        "--kubeconfig",
        str(kubeconfig),
        "--namespace",
        namespace,
        "port-forward",
        f"service/{service}",
    ]
    with subprocess.Popen([*command, f"{here}:{port}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said.startswith(b"Forwarding"), said
            yield f"http://127.0.0.1:{here}"
        finally:
            process.terminate()


class Pages:
    """Airflow's pages.

    Args:
        url: of the API server.
    """

    def __init__(self, url: str, browser: webdriver.Chrome) -> None:
        self.url = url
        self.browser = browser

    @classmethod
    @contextmanager
    def opened(cls, url: str) -> Iterator[Pages]:
        """Start a browser."""
        options = webdriver.ChromeOptions()
        for flag in _FLAGS:
            options.add_argument(flag)
        options.binary_location = _program("chromium")
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(_program("chromedriver")))
        try:
            yield cls(url, browser)
        finally:
            browser.quit()

    def log_in(self, username: str, password: str) -> None:
        """Log in by the form."""
        self.browser.get(f"{self.url}/auth/login/")
        self._wait(By.NAME, "username").send_keys(username)
        self.browser.find_element(By.NAME, "password").send_keys(password)
        self.browser.find_element(By.CSS_SELECTOR, "input[type=submit], button[type=submit]").click()
        WebDriverWait(self.browser, _SECONDS).until(lambda browser: "/login" not in urlsplit(browser.current_url).path)

    def open(self, path: str, *texts: str) -> None:
        """Open a page, and wait until it shows these texts."""
        self.browser.get(f"{self.url}{path}")
        for text in texts:
            self._wait(By.XPATH, f"//*[contains(text(), {text!r})]")
        time.sleep(1)  # what slides in has arrived

    def show_graph(self) -> list[str]:
        """Show the run's graph, and return what its nodes say."""
        self._wait(By.CSS_SELECTOR, 'button[value="graph"]').click()
        self._wait(By.CSS_SELECTOR, ".react-flow__node")
        time.sleep(2)  # it is laid out, and comes into view
        return [node.text for node in self.browser.find_elements(By.CSS_SELECTOR, ".react-flow__node")]

    def picture(self, path: Path) -> None:
        """Keep what is on screen."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.browser.save_screenshot(str(path))

    def _wait(self, by: str, what: str) -> WebElement:
        return WebDriverWait(self.browser, _SECONDS).until(expected_conditions.presence_of_element_located((by, what)))


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"there is no {name}; install Debian's chromium and chromium-driver"
    return found
