"""Every notebook of this folder runs, and one of its functions is right."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("notebook", sorted(HERE.glob("*.ipynb")), ids=lambda path: path.name)
def test_notebook_runs(container_kernel, notebook):
    container_kernel.run_notebook(notebook)


def test_mean_of_nothing_is_refused(container_kernel):
    container_kernel.run_notebook(HERE / "mean.ipynb")
    answer = container_kernel.run("mean([])")
    assert (answer.ename, answer.evalue) == ("ValueError", "no values")
