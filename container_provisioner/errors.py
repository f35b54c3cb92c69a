"""Every error this package raises on purpose: what happened, to what, and the next step.

All of them are RuntimeErrors, which is what `jupyter_client.start_new_kernel` and its
relatives expect of a kernel that does not start.
"""

from __future__ import annotations

from collections.abc import Iterable


class ContainerProvisionerError(RuntimeError):
    """The root of this package's errors.

    `exit_code` is what the command line ends with. The message names the kernel once it is
    known: `about` is called where the launch is given up.
    """

    exit_code = 1
    kernel_id: str | None = None

    def about(self, kernel_id: str) -> ContainerProvisionerError:
        """Say which kernel this error concerns; returns the error itself, to be raised."""
        self.kernel_id = kernel_id
        return self

    def __str__(self) -> str:
        message = super().__str__()
        return f"Kernel {self.kernel_id}: {message}" if self.kernel_id else message


class ConfigurationError(ContainerProvisionerError):
    """A setting, or two together, that cannot be carried out."""

    exit_code = 2


class WorkspaceError(ConfigurationError):
    """The notebook's folder or a mount cannot be given to the kernel."""


class UserRefused(ConfigurationError):
    """The kernel would run as a user that it may not be."""


class EngineError(ContainerProvisionerError):
    """The engine refused or failed a call. The engine's own words are in the message."""

    exit_code = 3


class EngineUnavailable(EngineError):
    """The engine gave no answer. Says nothing about the containers: they may well be running."""

    exit_code = 4


class EngineNotFound(EngineUnavailable):
    """No engine could be reached at any of the places that were tried."""

    def __init__(self, tried: Iterable[tuple[str, str]]) -> None:
        places = "; ".join(f"{url} ({why})" for url, why in tried)
        super().__init__(
            f"No container engine answers. Tried: {places}. "
            "Is it installed and running, and may this user reach its socket "
            "('docker version' shows both)? Set engine_url to use another one."
        )


class EngineMismatch(EngineError):
    """This SDK and this engine do not understand each other."""


class RuntimeMissing(EngineError):
    """The engine does not have the container runtime that was asked for."""

    def __init__(self, runtime: str, explanation: str) -> None:
        self.runtime = runtime
        super().__init__(
            f"The engine has no runtime {runtime!r} ({explanation}). Nothing was started without "
            "it. Install it and name it in the engine's configuration, or unset runtime."
        )


class ImageMissing(EngineError):
    """The engine has no such image."""

    exit_code = 5

    def __init__(self, image: str) -> None:
        self.image = image
        super().__init__(
            f"Image {image!r} is not present on the engine. "
            "Pull or build it, or set pull_policy='missing'."
        )


class PullFailed(EngineError):
    """The image could not be fetched."""

    exit_code = 5

    def __init__(self, image: str, explanation: str) -> None:
        self.image, self.explanation = image, explanation
        super().__init__(
            f"Image {image!r} is not present and could not be pulled: {explanation}. "
            "Check its name and that the registry can be reached and needs no login, "
            "or load the image into the engine yourself."
        )


class BuildFailed(EngineError):
    """An image could not be built. `output` is the last lines of what the build wrote."""

    exit_code = 5

    def __init__(self, image: str, explanation: str, output: Iterable[str] = ()) -> None:
        self.image, self.explanation, self.output = image, explanation, tuple(output)
        message = f"Image {image!r} could not be built: {explanation}"
        if self.output:
            message += "\nIts last lines:\n" + "\n".join(f"    {line}" for line in self.output)
        super().__init__(message)


class CommandMissing(EngineError):
    """The image does not hold the program that the kernelspec starts."""

    exit_code = 6

    def __init__(self, command: str, image: str) -> None:
        self.command, self.image = command, image
        super().__init__(
            f"Image {image!r} has no command {command!r}, so no kernel can be started in it. "
            "Use an image that holds a kernel, or correct the kernelspec's argv."
        )


class NoKernelInImage(EngineError):
    """The image has no kernelspec, and no ipykernel that one could be made for."""

    exit_code = 6

    def __init__(self, image: str) -> None:
        self.image = image
        super().__init__(
            f"Image {image!r} has no kernel: there is no kernelspec where Jupyter would look, and "
            "no Python on its PATH has ipykernel. Install a kernel in the image ('pip install "
            "ipykernel'), or build one that has it with 'jupyter container-kernel build'."
        )


class ContainerGone(EngineError):
    """The engine knows no such container (any more)."""


class ArchiveTooLarge(EngineError):
    """A file or folder in a container is larger than what it was to be read for."""

    def __init__(self, path: str, limit: int) -> None:
        super().__init__(f"{path} in the container is larger than {limit} bytes and was not read.")


class NameTaken(EngineError):
    """Another container, or network, already has the name."""


class NetworkMissing(EngineError):
    """The engine does not have the network that a container is to join (any more)."""


class KernelNotAdoptable(ContainerProvisionerError):
    """What was found under this kernel's identity is not, or not certainly, this kernel."""

    exit_code = 7


class KernelRuns(KernelNotAdoptable):
    """A container of this kernel is there already and has not ended."""

    def __init__(self, container_id: str) -> None:
        self.container_id = container_id
        super().__init__(
            f"A kernel with this id runs already, in container {container_id[:12]}. "
            "Nothing was changed."
        )


class RecordsLocked(ContainerProvisionerError):
    """Another process keeps the records locked."""

    def __init__(self, folder: str) -> None:
        super().__init__(
            f"Another process keeps the records in {folder} locked. Is it stopped, or the folder "
            "on a file system that hangs? Nothing was changed."
        )


class KernelDied(ContainerProvisionerError):
    """The kernel ended before it was ready; the message says why."""

    exit_code = 8


class KernelNotRunning(KernelDied):
    """What was asked for can be had of a kernel only that runs: it has ended, or is paused."""


class StartTimeout(ContainerProvisionerError):
    """The kernel was not ready in time. It has been removed."""

    exit_code = 9


class KernelNotFound(ContainerProvisionerError):
    """What somebody named is no kernel here, or the beginning of several."""

    exit_code = 10


class CopyFailed(ContainerProvisionerError):
    """Files could not be copied, or not all of them, into or out of a kernel's container."""

    exit_code = 11


class OwnerRefused(ContainerProvisionerError):
    """The process that has the kernel did not do what it was asked, or cannot be asked."""

    exit_code = 12
