#!/bin/sh
# Test what needs no torch (protocol, configuration, scheduler) under other Pythons:
#   test_without_torch.sh python3.10 python3.12 ...
# An interpreter that is not there is skipped and said so.
set -eu
for python in "$@"; do
    if ! "$python" -c 'import sys' 2>/dev/null; then
        echo "$python is not installed: skipped"
        continue
    fi
    venv="build/venv-$(basename "$python")-$("$python" -c 'import sys; print(".".join(map(str, sys.version_info[:2])))')"
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        click omegaconf 'pydantic>=2.7,<3' PyYAML rich pytest hypothesis
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps .
    "$venv/bin/python" -m pytest -q -p no:cacheprovider \
        tests/protocol tests/config tests/scheduler/test_sync.py
done
