#!/bin/sh
# Make build/site-without-torch: a site's environment under another Python than the server's, for tests:
#   site_without_torch.sh python3.12 python3.13 ...
# It takes the first interpreter that is there. Agent and appfl_gc answer site.hello there; torch is left out.
set -eu
venv="build/site-without-torch"
for python in "$@"; do
    "$python" -c 'import sys' 2>/dev/null || continue
    "$python" -m venv --clear "$venv"
    pip() { "$venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
    pip install --constraint constraints/tested.txt globus-compute-endpoint
    pip install --no-deps --editable .
    exit 0
done
echo "None of $* is installed: there is no $venv" >&2
