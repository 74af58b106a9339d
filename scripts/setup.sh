# Sourced: makes .venv with the package and the extras named in $1 where it is missing or outdated.
make_venv() {
    local extras="$1" python="${PYTHON:-python3}" stamp="$root/.venv/.installed-${1:-base}"
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "Python 3.11 or newer is needed; $python is $("$python" -V 2>&1). Set PYTHON=." >&2
        exit 2
    fi
    if [ ! -x "$root/.venv/bin/python" ]; then
        "$python" -m venv "$root/.venv"
    fi
    if [ ! -e "$stamp" ] || [ "$root/setup.py" -nt "$stamp" ]; then
        echo "installing into .venv (PyTorch from PyPI is several GB)" >&2
        "$root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check \
            --editable "$root${extras:+[$extras]}"
        touch "$stamp"
    fi
}
