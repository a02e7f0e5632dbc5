#!/bin/sh
# Print the path of a Python that can run this package, or explain what is missing.
#
# A candidate is believed only after it has been run: the shims of pyenv are on PATH for every
# version, and fail unless their version is selected. PYTHON, if set, is tried first.

check='
import sys
if not (3, 12) <= sys.version_info[:2] < (3, 15):  # the versions that PyMC and PyTensor support
    sys.exit(1)
import ensurepip, venv  # some systems package these apart
print(sys.executable)
'

try() {
    found=$("$1" -c "$check" 2>/dev/null </dev/null) && [ -n "$found" ] || return 1
    printf '%s\n' "$found"
    exit 0
}

if [ -n "${PYTHON:-}" ]; then
    try "$PYTHON"
    echo "PYTHON=$PYTHON is no Python 3.12, 3.13 or 3.14 with the venv module: looking for one." >&2
fi

# 1. On PATH. 3.12 first: it is what the package is developed on.
for name in python3.12 python3.13 python3.14 python3 python; do
    try "$name"
done

# 2. Installed, but not on PATH or not selected. An unmatched pattern is no program and fails.
pyenv_root=$(pyenv root 2>/dev/null </dev/null) || pyenv_root=${PYENV_ROOT:-${HOME:-}/.pyenv}
uv_python=$(uv python dir 2>/dev/null </dev/null) || uv_python=${HOME:-}/.local/share/uv/python
for minor in 12 13 14; do
    for path in \
        "$pyenv_root"/versions/3.$minor*/bin/python3 \
        "$uv_python"/cpython-3.$minor*/bin/python3 \
        /usr/local/bin/python3.$minor /usr/bin/python3.$minor \
        /opt/homebrew/bin/python3.$minor /opt/python*/*/bin/python3.$minor \
        /Library/Frameworks/Python.framework/Versions/3.$minor/bin/python3
    do
        try "$path"
    done
done
for path in "$pyenv_root"/versions/*/bin/python3 /usr/bin/python3 /usr/local/bin/python3; do
    try "$path"
done

cat >&2 <<'END'
No Python 3.12, 3.13 or 3.14 was found: not on PATH, not among the versions of pyenv and uv, and
not in the usual places. Install one, for example with
    pyenv install 3.12        or        uv python install 3.12
(on Debian and Ubuntu: apt install python3.12 python3.12-venv), or name one that you have:
    make PYTHON=/path/to/python3.12
END
exit 1
