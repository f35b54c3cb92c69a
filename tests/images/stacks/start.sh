#!/bin/sh
# As the docker-stacks' script: hooks that want a home they can write, then the command.
set -e
touch "$HOME/.started"
exec "$@"
