#!/usr/bin/env bash
# Makes everything here but this script, make_network.py and README.md.
set -euo pipefail
cd "$(dirname "$0")"
rm -rf ./*.bundle ./*.tar.gz
python make_network.py
ashneuro export leaky.nir --dt 1e-3 --input-coding spikes --inputs x.npy --accept-assumptions
python make_network.py counts
tar --sort=name --mtime=@0 --owner=root:0 --group=root:0 -czf leaky.bundle.tar.gz leaky.bundle
rm -r leaky.nir x.npy leaky.bundle
