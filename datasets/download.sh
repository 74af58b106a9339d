#!/usr/bin/env bash
# Fetch a data set into database/: bash datasets/download.sh NAME [options of download.py]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
python="$here/../.venv/bin/python"
[ -x "$python" ] || python=python3
exec "$python" "$here/download.py" "$@"
