#!/usr/bin/env bash
# Write a subnet that a task's search has found to a file.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
require_task "scripts/export.sh TASK --subnet SUBNET [--to onnx]" "${1:-}"
task="$1"
shift
cd "$root"
exec "$(tool gancompress)" export "runs/$task/search" "$@"
