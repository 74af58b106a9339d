#!/usr/bin/env bash
# Open the drawing page with the front that ships with the repository: no training at all.
# Arguments go to `gancompress demo`: --port 8000, --static FOLDER.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source "$root/scripts/setup.sh"
cd "$root"
make_venv metrics,video
scripts/vendor.sh
exec .venv/bin/gancompress demo pretrained/draw2emoji/front --open "$@"
