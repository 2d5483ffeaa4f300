#!/usr/bin/env bash
# Makes forged/ and attacked/ again from photographs/, and docs/images/examples.png from them.
set -euo pipefail
cd "$(dirname "$0")"
rm -rf forged attacked
ansm-fast data synthesize photographs -o forged -n 6 --seed 11 --pristine 0
ansm-fast attack --images forged/images --masks forged/masks -o attacked --attack pgd --eps 4/255
rm -rf forged/metadata
python picture.py
