"""Where the tests that need an engine find it: where the package finds it."""

from __future__ import annotations

import os

from container_provisioner.engine.find import candidates

DOCKER_URL = next(candidates("docker", "", os.environ))[0]
