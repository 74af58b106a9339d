#!/usr/bin/env bash
# Train a task's teacher, or go on with it.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
require_task "scripts/train_teacher.sh TASK [--set a.b=c ...]" "${1:-}"
task="$1"
shift
cd "$root"
exec "$(tool gancompress)" teacher "options/$task/teacher.yaml" "$@"
