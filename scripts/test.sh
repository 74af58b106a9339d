#!/usr/bin/env bash
# Install the test extra into .venv and the demo page's runtime where they are missing, then check
# style and types and run the tests: the fast ones first, then the slow ones. Arguments go to pytest
# in place of both.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source "$root/scripts/setup.sh"
cd "$root"
make_venv test
scripts/vendor.sh || echo "the tests of the demo page are skipped" >&2
scripts/check
if [ $# -gt 0 ]; then
    exec .venv/bin/python -m pytest "$@"
fi
.venv/bin/python -m pytest -m "not slow" --durations 5
.venv/bin/python -m pytest -m slow --durations 5
