"""JupyterLab in a browser: what somebody who sits in front of it has of kernels in containers.

With SCREENSHOTS=docs/images in the environment it takes the documentation's pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.models.containers import Container
from selenium.webdriver.common.keys import Keys

from container_provisioner.labels import container_name
from container_provisioner.server.death_notices import RESTARTED

from .browser import Page, browser, end_sessions, jupyter_lab, pictures_folder, write_notebook
from .command_line import command
from .conftest import own_jupyter, shared_folder
from .server_process import Server, eventually

pytestmark = pytest.mark.docker

KERNEL, DISPLAYED = "python3-container", "Python 3 (ipykernel) in a container"  # by `install`

PLOT = """
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(5, 2.4))
for power in (1, 2, 3):
    axes.plot([x**power for x in range(10)], label=f"power {power}")
_ = axes.legend()
""".strip()
SLIDER = """
import ipywidgets

threshold = ipywidgets.IntSlider(7, description="threshold")
threshold
""".strip()
HOARD = """
chunks = []
while True:
    chunks.append(bytearray(b"x") * 10_000_000)
""".strip()


@dataclass
class Desk:
    """A browser, and the server that it looks at."""

    page: Page
    server: Server
    engine: docker.DockerClient

    def open(self, name: str, *cells: str) -> None:
        write_notebook(self.server.root / f"{name}.ipynb", KERNEL, *cells)
        self.page.open(self.server, f"{name}.ipynb")

    @property
    def kernel(self) -> dict[str, Any]:
        (kernel,) = self.server.call("GET", "kernels").json()
        return dict(kernel)

    @property
    def container(self) -> Container:
        return self.engine.containers.get(container_name(self.kernel["id"]))


@pytest.fixture(scope="module")
def started(docker_client: docker.DockerClient) -> Iterator[Desk]:
    with own_jupyter() as runtime, shared_folder() as folder:
        ended = command("install", "--user", "--no-check", "--memory", "300m")
        assert ended.code == 0, ended.stderr
        options = ("--KernelRestarter.time_to_dead=0.5",)
        with jupyter_lab(runtime, folder, *options) as server, browser() as page:
            yield Desk(page, server, docker_client)


@pytest.fixture
def desk(started: Desk) -> Iterator[Desk]:
    yield started
    end_sessions(started.server)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return pictures_folder(tmp_path)


def test_a_notebook_from_the_launcher_has_plots_and_widgets(desk: Desk, pictures: Path):
    page = desk.page
    page.open_launcher(desk.server)
    page.take_picture(pictures / "launcher.png")
    page.launch(desk.server, DISPLAYED)
    assert desk.container.status == "running"

    page.write_cell(0, PLOT)
    assert page.run_cell(0) == ""
    plot = page.find(".jp-OutputArea-output img")
    eventually(lambda: plot.get_property("naturalWidth") > 300, "the plot")

    page.write_cell(1, SLIDER)
    page.run_cell(1)
    handle, shown = page.find('.widget-slider [role="slider"]'), page.find(".widget-readout")
    assert shown.text == "7"
    handle.send_keys(Keys.ARROW_RIGHT * 3)
    assert shown.text == "10"
    page.write_cell(2, "threshold.value")
    assert page.run_cell(2) == "10"
    page.take_picture(pictures / "plot-and-widget.png")
    page.write_cell(3, "threshold.value = 42")
    page.run_cell(3)
    eventually(lambda: shown.text == "42", "the slider to follow the kernel")


def test_interrupt_and_restart_from_the_page(desk: Desk):
    endless = "print('begins', flush=True)\nwhile True: pass"
    desk.open("interrupted", "x = 41", endless, "x + 1", "x")
    page, container = desk.page, desk.container
    page.run_cell(0)
    page.start_cell(1)
    eventually(lambda: page.cells[1].output, "the cell to run")
    assert page.status == "busy"
    page.press("interrupt-kernel")
    eventually(lambda: page.cells[1].has_ended, "the cell to be interrupted")
    assert "KeyboardInterrupt" in page.cells[1].output
    assert page.run_cell(2) == "42"

    before = container.attrs["State"]["StartedAt"]
    page.press("restart-kernel")
    assert "Restart Kernel?" in page.answer_dialog()

    def is_another() -> bool:
        container.reload()
        return bool(container.attrs["State"]["StartedAt"] != before)

    eventually(is_another, "the kernel to be restarted")
    eventually(lambda: page.status == "idle", "the page to be ready")
    assert "NameError" in page.run_cell(3)


def test_a_kernel_that_ran_out_of_memory_says_so_below_the_cell(desk: Desk, pictures: Path):
    desk.open("memory", "x = 41", HOARD, "x + 1")
    page, container = desk.page, desk.container
    page.run_cell(0)
    page.start_cell(1)
    assert "It will restart automatically." in page.answer_dialog()
    said = eventually(lambda: page.cells[1].output, "the reason")
    assert said.splitlines() == [
        "The kernel died: it ran out of memory (memory_limit is 300 MiB). "
        f"Container {container.short_id}, image host environment.",
        RESTARTED,
    ]
    eventually(lambda: page.status == "idle", "the next kernel")
    assert "NameError" in page.run_cell(2)
    eventually(lambda: page.status == "idle", "the page to say so")
    page.take_picture(pictures / "out-of-memory.png")


def test_a_kernel_whose_container_is_removed_says_so_and_is_replaced(desk: Desk):
    """Nothing runs then; it is said where something ran last."""
    desk.open("removed", "x = 41", "x + 1")
    page, container = desk.page, desk.container
    page.run_cell(0)
    container.remove(force=True)
    assert "It will restart automatically." in page.answer_dialog()
    said = eventually(lambda: page.cells[0].output, "the reason")
    reason, outcome = said.splitlines()
    assert reason.startswith("The kernel died: its container was removed from outside.")
    assert outcome == RESTARTED
    eventually(lambda: page.status == "idle", "the next kernel")
    assert "NameError" in page.run_cell(1)
    assert desk.container.id != container.id
