#!/usr/bin/env bash
# Makes everything here but this script, make_inputs.py and README.md.
set -euo pipefail
cd "$(dirname "$0")"
rm -rf shapes runs ./*.bundle ./*.tar.gz
mkdir shapes
python make_inputs.py

tiny=(
    ashneuro train tiny --device cpu
    --set data.source=shapes --set data.format=webdataset --set data.split=file
    --set 'data.styles=[]' --set data.image_size=16 --set data.max_words=2
    --set 'model.concrete.channels=[6]' --set model.concrete.width=8
    --set 'model.abstract.channels=[4,6]' --set model.abstract.units=16
    --set model.abstract.timesteps=3 --set model.abstract.v_threshold=1.0
    --set model.text.width=8 --set model.text.heads=1 --set model.embedding=16
    --set model.multimodal.width=8 --set model.multimodal.heads=1
    --set train.batch_size=12 --set train.learning_rate=2e-2 --set train.epochs=12
    --set train.firing_rate=0.25
)
"${tiny[@]}" --out runs/hybrid
"${tiny[@]}" --out runs/relu --set model.abstract.kind=relu
ashneuro train runs/hybrid --quantise-aware --out runs/learnt
for run in hybrid relu learnt; do ashneuro evaluate runs/$run; done
ashneuro export runs/hybrid --samples 4
ashneuro evaluate runs/hybrid --abstract-on loihi
ashneuro report runs/hybrid --baseline runs/relu --profile loihi1 --profile cmos45 --profile h100

# A schedule of two stages, killed in the second.
"${tiny[@]}" --out runs/interrupted --set model.multimodal.layers=1 --set train.stua=0 --set 'schedule=[
    {name = "pretrain", epochs = 1}, {name = "finetune", epochs = 3, task = "entailment"}]' &
until [ "$(wc -l <runs/interrupted/metrics.jsonl || echo 0)" -ge 2 ]; do sleep 0.01; done 2>/dev/null
kill -KILL $!
wait || true
ashneuro evaluate runs/interrupted --task entailment

ashneuro export lif_cubalif.nir --dt 1e-3 --timesteps 8 --samples 2
ashneuro export conv_delays.net --samples 2

# Kept small: these are not read again, or are copied into a bundle.
rm -f runs/{hybrid,relu,learnt}/trainer.pt runs/hybrid/report.html lif_cubalif.nir conv_delays.net
for folder in runs/* *.bundle; do
    tar --sort=name --mtime=@0 --owner=root:0 --group=root:0 -czf "$(basename "$folder").tar.gz" "$folder"
done
rm -r runs ./*.bundle
