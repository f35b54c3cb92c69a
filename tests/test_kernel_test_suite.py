"""jupyter_kernel_test, which every kernel is held against, on kernels in containers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import docker
import jupyter_kernel_test
import pytest

from container_provisioner import labels

from .conftest import BASH_IMAGE, IMAGE, R_IMAGE, own_jupyter, shared_folder, write_kernelspec

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module", autouse=True)
def kernelspecs_by_name() -> Iterator[None]:
    """The suite starts the kernel when its class is set up, in the current directory."""
    with own_jupyter() as runtime, shared_folder() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_kernelspec(runtime, "contained")
        write_kernelspec(runtime, "image-tcp", image=IMAGE, transport="tcp", network="bridge")
        file = "{connection_file}"
        r = ["R", "--slave", "-e", "IRkernel::main()", "--args", file]
        write_kernelspec(runtime, "r", argv=r, image=R_IMAGE)
        bash = ["/opt/kernel/bin/python", "-m", "bash_kernel", "-f", file]
        write_kernelspec(runtime, "bash", argv=bash, image=BASH_IMAGE)
        xeus = ["python", "-m", "xpython_launcher", "-f", file]
        write_kernelspec(runtime, "xeus-python", argv=xeus, image=IMAGE)
        yield


class TestIpykernel(jupyter_kernel_test.KernelTests):
    kernel_name = "contained"
    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('oh', file=sys.stderr)"
    completion_samples = [{"text": "zi", "matches": ["zip"]}]
    complete_code_samples = ["1", "print('hello, world')", "def f(x):\n  return x * 2\n\n\n"]
    incomplete_code_samples = ["print('''hello", "def f(x):\n  x * 2"]
    invalid_code_samples = ["import = 7q"]
    code_page_something = "zip?"
    code_generate_error = "raise ValueError(1)"
    code_execute_result = [
        {"code": "1 + 2 + 3", "result": "6"},
        {"code": "[n * n for n in range(1, 4)]", "result": "[1, 4, 9]"},
    ]
    code_display_data = [
        {
            "code": "from IPython.display import HTML; display(HTML('x'))",
            "mime": "text/html",
        },
        {"code": "from IPython.display import Math; display(Math('x'))", "mime": "text/latex"},
    ]
    code_history_pattern = "1 ? 2*"
    supported_history_operations = ("tail", "range", "search")
    code_inspect_sample = "zip"
    code_clear_output = "from IPython.display import clear_output; clear_output()"

    def history_helper(self, execute_first: Any, **arguments: Any) -> dict[str, Any]:
        reply = super().history_helper(execute_first, **arguments)
        if arguments["hist_access_type"] == "range":
            # IPython writes 0 for the session that is running, in a container or not.
            reply["content"]["history"] = [
                (session or arguments["session"], *entry)
                for session, *entry in reply["content"]["history"]
            ]
        return reply

    def test_it_runs_in_a_container(self) -> None:
        client = docker.from_env()
        try:
            label = f"{labels.KERNEL_ID}={self.km.kernel_id}"
            found = client.containers.list(filters={"label": label})
            assert [container.status for container in found] == ["running"]
        finally:
            client.close()


class TestIpykernelOfAnImageOverTcp(TestIpykernel):
    kernel_name = "image-tcp"


class TestR(jupyter_kernel_test.KernelTests):
    kernel_name = "r"
    language_name = "R"
    file_extension = ".r"
    code_hello_world = "cat('hello, world\\n')"
    code_stderr = "message('oh')"
    completion_samples = [{"text": "zi", "matches": ["zip"]}]
    complete_code_samples = ["1", "print('hello, world')", "f <- function(x) {x * 2}"]
    incomplete_code_samples = ["print('hello", "f <- function(x) {x"]
    invalid_code_samples = ["1 2"]
    code_generate_error = "stop('oh')"
    code_display_data = [{"code": "1 + 2 + 3", "mime": "text/plain"}]
    code_inspect_sample = "zip"
    # It has none of these; and its results are display_data.
    test_clear_output = test_history = test_pager = test_execute_result = None


class TestBash(jupyter_kernel_test.KernelTests):
    kernel_name = "bash"
    language_name = "bash"
    file_extension = ".sh"
    code_hello_world = "echo 'hello, world'"
    completion_samples = [{"text": "unali", "matches": ["unalias"]}]
    # It has none of these.
    test_clear_output = test_history = test_pager = test_execute_result = test_display_data = None
    test_error = test_execute_stderr = test_inspect = test_is_complete = None


class TestXeusPython(jupyter_kernel_test.KernelTests):
    kernel_name = "xeus-python"
    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('oh', file=sys.stderr)"
    completion_samples = [{"text": "zi", "matches": ["zip"]}]
    complete_code_samples = ["1", "print('hello, world')"]
    incomplete_code_samples = ["print('''hello", "def f(x):\n  x * 2"]
    code_generate_error = "raise ValueError(1)"
    code_execute_result = [{"code": "1 + 2 + 3", "result": "6"}]
    code_display_data = [
        {"code": "from IPython.display import HTML; display(HTML('x'))", "mime": "text/html"}
    ]
    code_clear_output = "from IPython.display import clear_output; clear_output()"
    code_inspect_sample = "zip"
    code_page_something = "zip?"
    test_history = None  # it counts otherwise


class TestWelcome(jupyter_kernel_test.IopubWelcomeTests):
    """A client that subscribes late learns from this message that it has subscribed."""

    kernel_name = "contained"
    support_iopub_welcome = True

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        # A kernel that is still being initialised may have something else to say first.
        first = cls.km.client()
        first.start_channels()
        first.wait_for_ready(timeout=60)
        first.stop_channels()
