"""Files into a running container and out of it, as the kernel's own user, past a hostile one."""
