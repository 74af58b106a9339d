#!/usr/bin/env bash
# Distil a task's once-for-all student from its teacher, or go on with it.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
require_task "scripts/train_supernet.sh TASK [--set a.b=c ...]" "${1:-}"
task="$1"
shift
cd "$root"
exec "$(tool gancompress)" supernet "options/$task/supernet.yaml" "$@"
