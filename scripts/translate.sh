#!/usr/bin/env bash
# Translate an image, a folder or a video; paths are relative to where it is called.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
if [ $# -lt 3 ]; then
    echo "usage: scripts/translate.sh MODEL INPUT OUTPUT [options of gancompress translate]" >&2
    exit 2
fi
exec "$(tool gancompress)" translate "$@"
