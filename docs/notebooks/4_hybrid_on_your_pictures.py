# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 4 A hybrid on your own pictures
#
# A folder of pictures, each with a text beside it, is all that training needs. Here a program draws
# them; put your folder in their place. The concrete encoder is an ANN, the abstract one spikes and
# is what gets deployed.

# %%
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import ashneuro as ash

random = np.random.default_rng(0)
COLOURS = {"red": (214, 40, 40), "green": (30, 140, 60), "blue": (40, 80, 200), "yellow": (240, 200, 40)}
SHAPES = ("circle", "square", "triangle")
folder = Path("pictures")
folder.mkdir(exist_ok=True)
for number in range(360):
    colour, shape = random.choice(list(COLOURS)), random.choice(SHAPES)
    picture = Image.new("RGB", (32, 32), tuple(random.integers(200, 256, 3)))
    x, y = random.integers(2, 12, 2).tolist()
    box = (x, y, x + 18, y + 18)
    draw = ImageDraw.Draw(picture)
    if shape == "circle":
        draw.ellipse(box, COLOURS[colour])
    elif shape == "square":
        draw.rectangle(box, COLOURS[colour])
    else:
        draw.polygon([(box[0], box[3]), (box[2], box[3]), (x + 9, y)], COLOURS[colour])
    picture.save(folder / f"{number:03}.png")
    (folder / f"{number:03}.txt").write_text(f"a {colour} {shape}\n")

# %% [markdown]
# `ashneuro data check pictures` looks for problems first, and `ashneuro data show pictures` draws a
# contact sheet.
#
# ## Train
#
# `own_pairs` is a preset; single settings are changed by name. The small sizes below are for a
# notebook.

# %%
settings = [
    "data.source=pictures",
    "data.image_size=32",
    "data.split=picture",
    "model.concrete.channels=[12, 16]",
    "model.abstract.channels=[16, 24]",
    "model.abstract.units=48",
    "train.epochs=12",
    "train.batch_size=32",
    "train.device=cpu",
]
run = ash.train("own_pairs", "run", settings=settings)

# %% [markdown]
# ## How good is it, and does it need the spikes?
#
# *A zeroed* leaves the spiking branch out at test time: if that costs nothing, the spikes are
# decoration.

# %%
result = ash.evaluate(run)
for row in result.evaluation.rows:
    print(row.condition.value or "whole", [f"R@1 {way['R@1']:.1%}" for way in row.directions])

# %%
found = ash.search(run, "a red circle", n=5)
found

# %% [markdown]
# ## Deploy the spiking part

# %%
exported = ash.export(run, samples=4)
print(exported.certificate.verdict)
print(ash.report(run, profiles=["cmos45"]).verdict)

# %%
best = max(way["R@1"] for way in result.evaluation.rows[0].directions)
assert best > 3 * max(way["R@1"] for way in result.evaluation.chance.directions)
assert not exported.certificate.failed
