"""The tests of kernels, their messages and their signals, on kernels that waited in a pool."""

from __future__ import annotations

from typing import Any

import docker
import pytest

from .conftest import Kernel, StartKernel
from .pools import OpenPool, is_warm, warm_pool_fixture  # noqa: F401 - a fixture

# Each runs here a second time: `start_kernel` below is another one.
from .test_kernels import (  # noqa: F401
    test_connection_file_names_the_kernels_own_end_of_the_sockets,
    test_folder_that_is_a_link_keeps_the_name_it_was_given,
    test_kernel_starts_in_the_notebooks_folder,
    test_restart_in_place_empties_the_home_that_is_in_memory,
    test_restart_in_place_keeps_the_files_of_the_root_filesystem,
    test_settings_that_changed_give_a_new_container_at_the_next_restart,
    test_shutdown_leaves_nothing,
    test_variables_live_until_a_restart,
    test_what_the_kernel_process_writes_is_in_the_engines_log,
)
from .test_messages import (  # noqa: F401
    IPC,
    TCP,
    test_a_breakpoint_is_hit_and_continued,
    test_a_comm_opened_by_the_front_end_carries_buffers,
    test_a_shutdown_message_alone_ends_the_kernel,
    test_a_widget_opened_by_the_kernel_answers_its_front_end,
    test_input_and_getpass_ask_over_stdin,
    test_the_subshell_magic_says_where_it_runs,
    test_two_subshells_run_while_the_main_shell_is_busy,
)
from .test_signals import (  # noqa: F401
    test_exit_code,
    test_interrupt_in_an_image,
    test_interrupt_stops_what_the_cell_is_running,
    test_signal_of_no_special_meaning_arrives,
)

pytestmark = pytest.mark.docker


@pytest.fixture(params=["ipc", "tcp-restarted"])
async def kernel(request: pytest.FixtureRequest, start_kernel: StartKernel) -> Kernel:
    """Half of those that are tried cold: a channel does not know how its kernel came to be."""
    started = await start_kernel(**(IPC if request.param == "ipc" else TCP))
    if request.param.endswith("restarted"):
        await started.restart()
    return started


@pytest.fixture
async def start_kernel(warm_pool: OpenPool, docker_client: docker.DockerClient) -> StartKernel:
    """As conftest's; the kernel's container waited, and no other one does any more."""

    async def start(
        *,
        launch: dict[str, Any] | None = None,
        manager: dict[str, Any] | None = None,
        ready: bool = True,
        **kernelspec: Any,
    ) -> Kernel:
        launch = launch or {}
        pool = await warm_pool(cwd=launch.get("cwd"), **kernelspec)
        started = await pool.start(ready=ready, manager=manager, **launch)
        assert is_warm(started, docker_client)
        await pool.close()
        return started

    return start
