"""Batches: determinism, shards, augmentation, texts, images in memory and on disk."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ashneuro.config import DataConfig, TrainConfig
from ashneuro.data.batches import (
    Batches,
    augment,
    draw_augmentation,
    incomplete_batch,
    load_images,
    map_images,
    normalise,
    prefetch,
    require_batch,
    texts_of,
)
from ashneuro.data.pairs import Pair
from ashneuro.data.tokens import Vocabulary, build_vocabulary
from ashneuro.errors import DataError

DATA = DataConfig(image_size=8, captions="separate", max_words=3)
TRAIN = TrainConfig(batch_size=4, word_dropout=0.0)


def pairs(count: int = 10) -> list[Pair]:
    def image(index: int) -> np.ndarray:
        return np.random.default_rng(index).integers(0, 256, (8, 8, 3), np.uint8)

    return [
        Pair(f"p{i}", (f"thing{i} one", f"thing{i} two three four"), f"c{i // 2}", lambda i=i: image(i))
        for i in range(count)
    ]


def vocabulary() -> Vocabulary:
    return build_vocabulary(text for pair in pairs() for text in pair.captions)


def changed(images: torch.Tensor, seed: int) -> torch.Tensor:
    return augment(images, draw_augmentation(len(images), 1.0, torch.Generator().manual_seed(seed)))


def test_pictures_of_the_right_size_load_without_warning() -> None:
    """Pillow's arrays are read-only, and torch warns of read-only arrays."""
    (pair, *_) = pairs(1)
    pixels = pair.load()
    pixels.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images = load_images([replace(pair, load=lambda: pixels)], 8)
    assert np.array_equal(images[0].permute(1, 2, 0), pixels)


def epoch(number: int, data: DataConfig = DATA, train: TrainConfig = TRAIN, views: bool = True) -> list:
    return list(Batches(pairs(), vocabulary(), data, train, views=views).epoch(number))


def test_epoch_depends_on_seed_and_number_alone() -> None:
    one, again = epoch(3), epoch(3)
    for first, second in zip(one, again, strict=True):
        assert first.keys == second.keys
        for name in ("images", "views", "tokens", "concepts"):
            assert torch.equal(getattr(first, name), getattr(second, name))
    assert [batch.keys for batch in epoch(4)] != [batch.keys for batch in one]
    assert [batch.keys for batch in epoch(3, train=replace(TRAIN, seed=1))] != [batch.keys for batch in one]


def test_batches_are_whole_and_contain_each_pair_once() -> None:
    batches = epoch(0, views=False)
    keys = [key for batch in batches for key in batch.keys]
    assert len(batches) == 2 and len(keys) == len(set(keys)) == 8
    for batch in batches:
        assert batch.views is None
        assert batch.images.shape == (4, 3, 8, 8) and batch.images.dtype == torch.float32
        same = [[a == b for b in batch.concepts.tolist()] for a in batch.concepts.tolist()]
        numbers = [int(key[1:]) // 2 for key in batch.keys]
        assert same == [[a == b for b in numbers] for a in numbers]


def test_views_are_two_augmentations_of_one_image() -> None:
    (batch, _) = epoch(0, train=replace(TRAIN, augment=0.2))
    assert not torch.equal(batch.images, batch.views)
    distance = torch.cdist(batch.images.flatten(1), batch.views.flatten(1))
    assert distance.argmin(1).tolist() == [0, 1, 2, 3]


def test_no_augmentation_at_strength_zero() -> None:
    (batch, _) = epoch(0, train=replace(TRAIN, augment=0.0))
    by_key = dict(zip([pair.key for pair in pairs()], normalise(load_images(pairs(), 8)), strict=True))
    assert torch.equal(batch.images, torch.stack([by_key[key] for key in batch.keys]))
    assert normalise(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-2.0, 2.0]


def test_texts_are_single_or_joined_captions() -> None:
    words = vocabulary()
    captions = {pair.key: pair.captions for pair in pairs()}
    seen = set()
    for number in range(6):
        for batch in epoch(number):
            for key, row in zip(batch.keys, batch.tokens, strict=True):
                text = " ".join(words.words[index] for index in row.tolist() if index)
                choices = [" ".join(caption.split()[:3]) for caption in captions[key]]
                assert text in choices
                seen.add(choices.index(text))
    assert seen == {0, 1}
    assert texts_of(pairs()[0], "joined") == ("thing0 one, thing0 two three four",)
    assert texts_of(pairs()[0], "separate") == pairs()[0].captions


def test_word_dropout_keeps_at_least_one_word() -> None:
    (batch, _) = epoch(0, replace(DATA, captions="joined", max_words=9), replace(TRAIN, word_dropout=0.9))
    lengths = (batch.tokens > 0).sum(1)
    assert lengths.min() >= 1 and lengths.max() < 6


def test_images_of_any_size_are_resized() -> None:
    wide = Pair("wide", ("w",), "w", lambda: np.full((20, 30, 3), (255, 128, 0), np.uint8))
    assert load_images([wide], 8).unique(dim=-1).squeeze().unique(dim=-1).flatten().tolist() == [255, 128, 0]


def test_too_few_pairs_for_a_batch_are_refused() -> None:
    with pytest.raises(DataError, match="10 training pairs") as error:
        Batches(pairs(), vocabulary(), DATA, replace(TRAIN, batch_size=11), views=False)
    assert "batch_size=10" in error.value.do


def test_augmentation_never_mirrors_and_keeps_white_uniform() -> None:
    corner = torch.full((64, 3, 16, 16), 2.0)
    corner[:, :, 2:6, 2:6] = -2.0  # a dark square in the upper left quarter
    moved = changed(corner, 0).mean(1)
    dark = torch.stack([moved[:, :8, :8], moved[:, :8, 8:], moved[:, 8:, :8], moved[:, 8:, 8:]], 1).mean((2, 3))
    assert (dark.argmin(1) == 0).all()
    white = changed(torch.full((8, 3, 16, 16), 1.0), 0)
    assert white.flatten(2).std(-1).max() < 1e-5


def test_colour_matrix_rotates_about_grey() -> None:
    grey = torch.linspace(-1, 1, 16).expand(8, 3, 16, 16).contiguous()
    out = changed(grey, 2)
    torch.testing.assert_close(out[:, 0], out[:, 1])
    torch.testing.assert_close(out[:, 0], out[:, 2])
    red = torch.tensor([1.5, -1.5, -1.5])[None, :, None, None].expand(64, 3, 4, 4)
    seen = changed(red, 2).mean((2, 3))
    assert (seen.argmax(1) == 0).all()  # ±20° of hue keep red red
    assert seen.std(0).min() > 0.1


def test_shards_of_processes_make_the_batch_of_one() -> None:
    whole = epoch(2)
    parts = [list(Batches(pairs(), vocabulary(), DATA, TRAIN, views=True, shard=(rank, 2)).epoch(2)) for rank in (0, 1)]
    for number, batch in enumerate(whole):
        ours = [part[number] for part in parts]
        assert sum((one.keys for one in ours), ()) == batch.keys
        for name in ("images", "views", "concepts"):
            assert torch.equal(torch.cat([getattr(one, name) for one in ours]), getattr(batch, name)), name


def test_epoch_starts_at_any_batch() -> None:
    (_, second) = epoch(1)
    (again,) = Batches(pairs(), vocabulary(), DATA, TRAIN, views=True).epoch(1, start=1)
    assert (
        again.keys == second.keys
        and torch.equal(again.images, second.images)
        and torch.equal(again.tokens, second.tokens)
    )


def few(unlabelled: float = 0.5, shard: tuple[int, int] = (0, 1)) -> Batches:
    train = replace(TRAIN, batch_size=2, unlabelled=unlabelled)
    return Batches(pairs(), vocabulary(), DATA, train, views=False, labelled=[1, 4, 8], shard=shard)


def test_labelled_pairs_repeat_and_the_others_come_unpaired() -> None:
    batches, owner = few(), {word: index for index in range(10) for word in vocabulary().indices(f"thing{index}")}
    found = list(batches.epoch(0))
    assert len(found) == len(batches) == 5, "as many batches as all pairs make"
    keys = [key for batch in found for key in batch.keys]
    assert [keys.count(f"p{row}") >= 3 for row in (1, 4, 8)] == [True] * 3 and set(keys) == {"p1", "p4", "p8"}
    for batch in found:
        assert [f"p{owner[int(words[0])]}" for words in batch.tokens] == list(batch.keys)
    everything = normalise(load_images(pairs(), 8))
    images, texts = [], []
    for batch in found:
        assert batch.unpaired is not None and batch.unpaired.views.shape == batch.unpaired.images.shape
        assert not torch.equal(batch.unpaired.views, batch.unpaired.images)
        images += [int((everything - image).abs().sum((1, 2, 3)).argmin()) for image in batch.unpaired.images]
        texts += [owner[int(words[0])] for words in batch.unpaired.tokens]
        for fragment, whole in zip(batch.unpaired.fragments.tolist(), batch.unpaired.tokens.tolist(), strict=True):
            assert set(fragment) - {0} <= set(whole)
    others = {0, 2, 3, 5, 6, 7, 9}
    assert set(images) == others and set(texts) == others and images != texts
    assert all(batch.unpaired is None for batch in few(unlabelled=0.0).epoch(0))


def test_unpaired_rows_of_processes_make_those_of_one() -> None:
    for whole, *parts in zip(few().epoch(3), few(shard=(0, 2)).epoch(3), few(shard=(1, 2)).epoch(3), strict=True):
        assert whole.unpaired is not None
        for name in ("images", "views", "tokens"):
            joined = torch.cat([getattr(part.unpaired, name) for part in parts])
            assert torch.equal(joined, getattr(whole.unpaired, name))
    resumed, before = next(few().epoch(3, 2)), list(few().epoch(3))[2]
    assert resumed.keys == before.keys and torch.equal(resumed.unpaired.fragments, before.unpaired.fragments)


def test_batches_are_made_on_the_device_that_learns() -> None:
    """A device without memory shows where they lie, and that nothing reads them back."""
    meta = torch.device("meta")
    there, here = next(few().epoch(0, device=meta)), next(few().epoch(0))
    for ours, theirs in ((there, here), (there.unpaired, here.unpaired)):
        for name, value in vars(theirs).items():
            if isinstance(value, torch.Tensor):
                moved = getattr(ours, name)
                assert (moved.device, moved.shape, moved.dtype) == (meta, value.shape, value.dtype), name
    assert there.keys == here.keys


@pytest.mark.gpu
def test_augmentation_of_a_gpu_is_that_of_the_cpu() -> None:
    for ours, theirs in zip(few().epoch(0, device=torch.device("cuda")), few().epoch(0), strict=True):
        torch.testing.assert_close(ours.images.cpu(), theirs.images, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(ours.unpaired.views.cpu(), theirs.unpaired.views, atol=1e-4, rtol=1e-4)
        assert torch.equal(ours.tokens.cpu(), theirs.tokens)


def test_too_few_labelled_pairs_are_refused() -> None:
    with pytest.raises(DataError, match="1 labelled of 10 training pairs"):
        Batches(pairs(), vocabulary(), DATA, replace(TRAIN, batch_size=2), views=False, labelled=[1])


def test_mapped_images_equal_those_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASHNEURO_HOME", str(tmp_path))
    mapped = map_images(pairs(), 8)
    assert torch.equal(mapped, load_images(pairs(), 8))
    (file,) = (tmp_path / "images").iterdir()
    stamp = file.stat().st_mtime_ns
    assert torch.equal(map_images(pairs(), 8), mapped) and file.stat().st_mtime_ns == stamp
    other = [*pairs()[:9], replace(pairs()[9], load=pairs()[0].load)]
    assert torch.equal(map_images(other, 8), load_images(other, 8)), "other pixels make another file"
    for one, another in zip(epoch(0), epoch(0, data=replace(DATA, store="disk")), strict=True):
        assert torch.equal(one.images, another.images)


def test_prefetch_propagates_errors_and_stops() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(6):
            made.append(number)
            yield number
            if number == 4:
                raise ValueError("broken")

    seen = []
    with pytest.raises(ValueError, match="broken"):
        for item in prefetch(items()):
            seen.append(item)
    assert seen == [0, 1, 2, 3, 4] == made
    assert list(prefetch(iter(()))) == []
    left = prefetch(iter(range(100)))
    assert next(left) == 0
    left.close()
    assert not any(thread.name == "batches" for thread in threading.enumerate())


def test_pairs_that_fill_no_batch_are_counted() -> None:
    note = incomplete_batch(192, "training pairs", 128)
    assert note.startswith("each epoch leaves out 64 of 192 training pairs")
    assert "train.batch_size=96 leaves out none" in note
    assert incomplete_batch(256, "training pairs", 128) == ""
    assert incomplete_batch(48, "training pairs", 128) == ""  # no batch at all: an error
    assert "train.batch_size=10 leaves out 1" in incomplete_batch(31, "training pairs", 11)
    with pytest.raises(DataError, match="at least two"):
        require_batch(1, "training pairs", 2)


def test_equal_texts_of_a_batch_have_equal_numbers() -> None:
    captions = [("one", "A thing"), ("a  thing",), ("three", "four", "five"), ("one",)]
    pairs = [
        Pair(f"{number}", texts, f"{number}", lambda: np.zeros((8, 8, 3), np.uint8))
        for number, texts in enumerate(captions)
    ]
    data = DataConfig(image_size=8, captions="separate")
    settings = TrainConfig(batch_size=4, augment=0, word_dropout=0)
    words = build_vocabulary(text for texts in captions for text in texts)
    batches = Batches(pairs, words, data, settings, views=False)
    for epoch in range(4):
        (batch,) = batches.epoch(epoch)
        assert batch.texts is not None and batch.texts.shape == (4, 4)
        rows = {int(key): row for row, key in enumerate(batch.keys)}
        own = {key: set(batch.texts[row, 1:].tolist()) - {-1} for key, row in rows.items()}
        assert [len(own[key]) for key in range(4)] == [2, 1, 3, 1]
        assert own[1] < own[0] and own[3] < own[0] and own[1] != own[3] and own[2].isdisjoint(own[0])
        for key, row in rows.items():
            drawn = words.encode([text for text in captions[key]], 8)
            number = [text.tolist() for text in drawn].index(batch.tokens[row].tolist()[: drawn.shape[1]])
            assert batch.texts[row, 0] == batch.texts[row, 1 + number]
    apart = [replace(pair, concept="all") for pair in pairs]
    (batch,) = Batches(apart, words, data, settings, views=False).epoch(0)
    assert batch.texts is None
