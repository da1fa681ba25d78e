#!/bin/sh
# Install torch for the interpreter $PYTHON unless it is there: install_torch.sh cpu|pypi VERSION
# A CPU build weighs 0.2 GB; what PyPI serves for Linux brings several GB of CUDA libraries.
set -eu
pip="$PYTHON -m pip --disable-pip-version-check --quiet"

if "$PYTHON" -c 'import torch' 2>/dev/null; then
    exit 0
fi
if [ "$1" = pypi ] || [ "$(uname -s)" != Linux ]; then
    exec $pip install "torch==$2"
fi
# First from where pip is configured to look (a mirror, a directory of wheels), then from PyTorch's own index.
$pip install "torch==$2+cpu" 2>/dev/null ||
    exec $pip install --index-url https://download.pytorch.org/whl/cpu "torch==$2+cpu"
