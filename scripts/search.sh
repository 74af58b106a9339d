#!/usr/bin/env bash
# Search a task's supernet for the best subnets, under a budget if one is given.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
require_task "scripts/search.sh TASK [--macs 2.6G] [--set a.b=c ...]" "${1:-}"
task="$1"
shift
cd "$root"
exec "$(tool gancompress)" search "options/$task/search.yaml" "$@"
