#!/usr/bin/env bash
# The main job on the embedded data set: shipped teacher -> once-for-all student -> search under
# three MAC budgets -> exported generators and the report. Arguments go to `gancompress compress`.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source "$root/scripts/setup.sh"
cd "$root"
make_venv metrics,video
exec .venv/bin/gancompress compress options/draw2emoji/quickstart.yaml "$@"
