# Sourced by the other scripts: strict mode, the repository's root, its own tools if it has any.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

# tool NAME: the path of NAME in .venv, or NAME itself to be looked up.
tool() {
    if [ -x "$root/.venv/bin/$1" ]; then echo "$root/.venv/bin/$1"; else echo "$1"; fi
}

# require_task USAGE TASK: ends with exit code 2 unless options/TASK exists.
require_task() {
    if [ -z "${2:-}" ] || [ ! -d "$root/options/$2" ]; then
        if [ -n "${2:-}" ]; then echo "no task '$2'" >&2; fi
        echo "usage: $1" >&2
        echo "tasks: $(ls "$root/options" | tr '\n' ' ')" >&2
        exit 2
    fi
}
