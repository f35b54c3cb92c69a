"""JupyterLab in a real browser, in terms of somebody who sits in front of it.

Chromium without a window; scripts/browser installs it, and runs this file to see whether it has to.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from shutil import which

import nbformat.v4
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from .server_process import TOKEN, Server, eventually, jupyter_server

BROWSERS = ("google-chrome", "chromium", "chromium-browser")
DRIVERS = ("chromedriver", "chromium.chromedriver")
WIDTH, HEIGHT = 1280, 800

# Nothing is asked of other hosts, and nothing of somebody who visits for the first time.
LAB_OPTIONS = (
    "--ServerApp.open_browser=False",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
)

# Read in one step: JupyterLab may replace any element between two questions.
CELLS = """
    const text = (cell, part) =>
        [...cell.querySelectorAll(part)].map(element => element.textContent).join("");
    return [...document.querySelectorAll(".jp-Notebook .jp-CodeCell")].map(cell =>
        [text(cell, ".jp-InputPrompt"), text(cell, ".jp-OutputArea-output")]);
"""


# From attempt to attempt JupyterLab waits a random part of a time that doubles, and gives up after
# seven. A fifth of it is enough for a server to start, and no test waits for the dice.
PART = "const random = Math.random; Math.random = () => 0.2 + random() / 20;"


@dataclass(frozen=True)
class Cell:
    """A code cell as it is seen."""

    prompt: str  # "[*]:" while it runs or waits for its turn, "[1]:" afterwards
    output: str

    @property
    def has_ended(self) -> bool:
        return any(character.isdigit() for character in self.prompt)


@dataclass
class Page:
    """A browser's tab with one open notebook. Cells are code cells, counted from 0."""

    driver: webdriver.Chrome

    def open(self, server: Server, notebook: str) -> None:
        """Open a notebook in JupyterLab; its kernel starts by itself."""
        # A workspace of its own: no other notebook opens with it.
        place = f"workspaces/{Path(notebook).stem}/tree/{notebook}"
        self.driver.get(f"{server.url}lab/{place}?token={TOKEN}")
        self.await_kernel(server)

    def open_launcher(self, server: Server) -> None:
        self.driver.get(f"{server.url}lab/workspaces/launcher?token={TOKEN}")
        self.find(".jp-LauncherCard")

    def launch(self, server: Server, kernel: str) -> None:
        """Choose a notebook with the kernel of this display name in the launcher."""
        self.click(f'.jp-LauncherCard[data-category="Notebook"][title="{kernel}"]')
        self.await_kernel(server)

    def await_kernel(self, server: Server) -> None:
        def is_connected() -> bool:
            # The page alone cannot be asked: it shows "idle" before there is a kernel.
            kernels = server.call("GET", "kernels").json()
            return self.status == "idle" and any(kernel["connections"] for kernel in kernels)

        eventually(is_connected, "the notebook's kernel")

    def find(self, selector: str) -> WebElement:
        """The first element of this kind, as soon as there is one."""
        found = partial(self.driver.find_elements, By.CSS_SELECTOR, selector)
        return eventually(found, selector)[0]

    def click(self, selector: str) -> None:
        def is_clicked() -> bool:
            with contextlib.suppress(WebDriverException):  # it is being drawn
                self.find(selector).click()
                return True
            return False

        eventually(is_clicked, f"a click on {selector}")

    @property
    def cells(self) -> list[Cell]:
        return [Cell(*seen) for seen in self.driver.execute_script(CELLS)]

    @property
    def status(self) -> str:
        """The kernel's, as the notebook's toolbar shows it: idle, busy, connecting, ..."""
        shown = "return document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status"
        return str(self.driver.execute_script(shown))

    def start_cell(self, number: int) -> None:
        """Click into the cell and press Shift and Enter."""

        def is_clicked() -> bool:
            self.close_dialogs()
            # JupyterLab is still drawing, or one more dialog has come in between.
            with contextlib.suppress(WebDriverException):
                cell = self.driver.find_elements(By.CSS_SELECTOR, ".jp-Notebook .jp-CodeCell")
                cell[number].find_element(By.CSS_SELECTOR, ".cm-content").click()
                return True
            return False

        eventually(is_clicked, f"a click into cell {number}")
        keys = webdriver.ActionChains(self.driver)
        keys.key_down(Keys.SHIFT).send_keys(Keys.ENTER).key_up(Keys.SHIFT).perform()

    def run_cell(self, number: int) -> str:
        """Run a cell to its end; what stands below it."""
        self.start_cell(number)
        eventually(lambda: self.cells[number].has_ended, f"cell {number} to end")
        return self.cells[number].output

    def write_cell(self, number: int, code: str) -> None:
        """Paste code into an empty cell."""
        self.click(f".jp-Notebook .jp-CodeCell:nth-of-type({number + 1}) .cm-content")
        self.driver.execute_cdp_cmd("Input.insertText", {"text": code})

    def press(self, command: str) -> None:
        """A button of the notebook's toolbar, by its command: interrupt-kernel, restart-kernel."""
        self.click(f'.jp-NotebookPanel-toolbar [data-command="notebook:{command}"]')

    def answer_dialog(self) -> str:
        """Agree to what JupyterLab says or asks; what that is."""
        text = self.find(".jp-Dialog-content").text
        self.click(".jp-Dialog .jp-mod-accept")
        return text

    def close_dialogs(self) -> None:
        """Such as the one which says that the server cannot be reached."""
        for button in self.driver.find_elements(By.CSS_SELECTOR, ".jp-Dialog .jp-mod-reject"):
            with contextlib.suppress(WebDriverException):  # closed itself meanwhile
                button.click()

    def take_picture(self, path: Path) -> None:
        self.close_dialogs()
        self.driver.save_screenshot(str(path))


def jupyter_lab(
    runtime_dir: Path, folder: Path, *options: str, port: int = 0
) -> AbstractContextManager[Server]:
    """Start JupyterLab, each time with the same settings."""
    base = runtime_dir.parent
    write_settings(base / "settings")
    return jupyter_server(
        runtime_dir,
        folder,
        *LAB_OPTIONS,
        *options,
        module="jupyterlab",
        port=port,
        JUPYTERLAB_SETTINGS_DIR=str(base / "settings"),
        JUPYTERLAB_WORKSPACES_DIR=str(base / "workspaces"),
    )


def write_settings(directory: Path) -> None:
    notification = directory / "@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    notification.parent.mkdir(parents=True, exist_ok=True)
    notification.write_text('{"fetchNews": "false", "checkForUpdates": false}')


def end_sessions(server: Server) -> None:
    """What closing all notebooks with "Shut down" does."""
    for session in server.call("GET", "sessions").json():
        assert server.call("DELETE", f"sessions/{session['id']}").status_code == 204


def write_notebook(path: Path, kernel: str, *cells: str) -> None:
    """A notebook with these code cells, for the kernel of this name."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
        metadata={"kernelspec": {"name": kernel, "display_name": kernel, "language": "python"}},
    )
    nbformat.write(notebook, path)


def pictures_folder(otherwise: Path) -> Path:
    """Where pictures go: with SCREENSHOTS in the environment, into the documentation."""
    return Path(os.environ.get("SCREENSHOTS", otherwise))


@contextlib.contextmanager
def browser() -> Iterator[Page]:
    """A browser with an empty page and a profile of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location, driver_path = find_browser()
    options.add_argument("--headless=new")
    options.add_argument(f"--window-size={WIDTH},{HEIGHT + 200}")
    options.add_argument("--disable-dev-shm-usage")  # a container's is too small
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium refuses root otherwise
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        # Its own, because Chromium leaves things there.
        service = webdriver.ChromeService(driver_path, env={**os.environ, "TMPDIR": scratch})
        driver = webdriver.Chrome(options, service)
        try:
            size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": PART})
            yield Page(driver)
        finally:
            driver.quit()


def find_browser() -> tuple[str, str]:
    """A browser and the driver of its version, as paths. LookupError says why there is none."""
    versions = {name: major_version(path) for name in BROWSERS + DRIVERS if (path := which(name))}
    for browser_name, driver_name in product(BROWSERS, DRIVERS):
        version = versions.get(browser_name)
        if version and version == versions.get(driver_name):
            return str(which(browser_name)), str(which(driver_name))
    raise LookupError(f"no browser with the driver of its version, only {versions or 'nothing'}")


def major_version(command: str) -> str:
    """Empty for what does not run, such as the stub that Ubuntu has for Chromium."""
    shown = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"\d+", shown.stdout)
    return found[0] if found else ""


if __name__ == "__main__":
    with browser() as page:
        print("{browserName} {browserVersion} runs".format(**page.driver.capabilities))
