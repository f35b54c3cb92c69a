"""A page of JupyterLab stays open while its server dies and comes back.

With SCREENSHOTS=docs/images in the environment it takes the documentation's pictures.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from .browser import (
    Page,
    browser,
    end_sessions,
    jupyter_lab,
    pictures_folder,
    write_notebook,
)
from .conftest import WriteKernelspec
from .server_process import Server, eventually, free_port

pytestmark = pytest.mark.docker

RECONNECTS = 90.0  # seconds; JupyterLab waits longer from attempt to attempt, up to a minute

SET, COUNT, ADD = range(3)  # the notebook's cells
CODE = (
    "x = 41",
    """
from pathlib import Path
from time import sleep

number = 0
while not Path("enough").exists():
    print(number, end=" " if number % 10 < 9 else "\\n")
    number += 1
    sleep(0.5)
""".strip(),
    "x + 1",
)

StartLab = Callable[[], AbstractContextManager[Server]]


@pytest.fixture
def lab(runtime_dir: Path, folder: Path) -> StartLab:
    """Start JupyterLab, each time on the same port and configuration."""
    disable_widgets(runtime_dir.parent / "config")
    return partial(jupyter_lab, runtime_dir, folder, port=free_port())


def disable_widgets(config: Path) -> None:
    """With them a page that has connected again often shows "idle" while a cell runs on."""
    path = config / "labconfig" / "page_config.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"disabledExtensions": {"@jupyter-widgets/jupyterlab-manager": true}}')


@dataclass
class Counting:
    """An open notebook with a cell that counts until it is told that this is enough."""

    page: Page
    folder: Path

    def start(self, server: Server) -> None:
        self.page.open(server, "count.ipynb")
        self.page.run_cell(SET)
        self.page.start_cell(COUNT)
        eventually(lambda: len(self.numbers) > 5, "the cell to count")

    def stop(self) -> None:
        (self.folder / "enough").touch()

    @property
    def numbers(self) -> list[int]:
        return [int(word) for word in self.page.cells[COUNT].output.split()]

    @property
    def has_ended(self) -> bool:
        return self.page.cells[COUNT].has_ended


@pytest.fixture
def counting(kernelspec: WriteKernelspec, folder: Path) -> Iterator[Counting]:
    kernel = kernelspec(on_server_exit="keep", spec={"display_name": "Python (container)"})
    write_notebook(folder / "count.ipynb", kernel, *CODE)
    with browser() as page:
        yield Counting(page, folder)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return pictures_folder(tmp_path)


def ids(server: Server) -> list[tuple[str, str]]:
    """Of each session, its own and its kernel's; no kernel is without one."""
    sessions = server.call("GET", "sessions").json()
    kernels = server.call("GET", "kernels").json()
    assert {s["kernel"]["id"] for s in sessions} == {k["id"] for k in kernels}
    return [(session["id"], session["kernel"]["id"]) for session in sessions]


def test_an_open_page_carries_on_when_its_server_was_killed(
    lab: StartLab, counting: Counting, pictures: Path
):
    """F4: the cell goes on, all that it printed meanwhile arrives, its variables are there."""
    page = counting.page
    with lab() as server:
        counting.start(server)
        before = ids(server)
        page.take_picture(pictures / "before-the-kill.png")
        server.stop(signal.SIGKILL)
    eventually(lambda: page.status == "connecting", "the page to miss its server")
    seen = len(counting.numbers)
    with lab() as server:
        assert ids(server) == before
        eventually(lambda: page.status == "busy", "the page to reconnect", RECONNECTS)
        eventually(lambda: len(counting.numbers) > seen + 5, "the cell to count on")
        counting.stop()
        eventually(lambda: counting.has_ended, "the cell to end")
        assert counting.numbers == list(range(len(counting.numbers)))
        assert page.run_cell(ADD) == "42"
        page.take_picture(pictures / "after-the-restart.png")
        end_sessions(server)


def test_a_cell_that_ended_while_no_server_ran_has_ended_in_the_page(
    lab: StartLab, counting: Counting
):
    """Its reply came when nobody was there for it. After a clean stop, for a change."""
    page = counting.page
    with lab() as server:
        counting.start(server)
        server.stop(signal.SIGTERM)
    counting.stop()
    with lab() as server:
        eventually(lambda: counting.has_ended, "the page to reconnect", RECONNECTS)
        assert counting.numbers == list(range(len(counting.numbers)))
        eventually(lambda: page.status == "idle", "the page to say so")
        assert page.run_cell(ADD) == "42"
        end_sessions(server)
