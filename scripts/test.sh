#!/usr/bin/env bash
# Install the test extra into .venv and the demo page's runtime where they are missing, then check
# style and types and run the tests: the fast ones, then the slow ones, both with one process of one
# thread for each processor, then those that drive a browser. Arguments go to pytest in place of all.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source "$root/scripts/setup.sh"
cd "$root"
make_venv test
scripts/vendor.sh || echo "the tests of the demo page are skipped" >&2
scripts/check
if [ $# -gt 0 ]; then
    exec .venv/bin/python -m pytest "$@"
fi
parallel=(--numprocesses logical --dist loadfile --durations 20)
threads=(env OMP_NUM_THREADS=1 MKL_NUM_THREADS=1)
"${threads[@]}" .venv/bin/python -m pytest -m "not slow and not page" "${parallel[@]}"
"${threads[@]}" .venv/bin/python -m pytest -m "slow and not page" "${parallel[@]}"
.venv/bin/python -m pytest -m page --durations 20
