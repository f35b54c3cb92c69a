"""Runs Jupyter kernels in containers: a `jupyter_client` kernel provisioner."""

__version__ = "0.1.0.dev0"
