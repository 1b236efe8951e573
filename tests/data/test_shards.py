"""Shards as a stream: from disk and over HTTP, in bounded memory, with damage, in any number of
processes.
"""

from __future__ import annotations

import itertools
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ashneuro.config import DataConfig, TrainConfig
from ashneuro.data import shards
from ashneuro.data.archives import read_webdataset
from ashneuro.data.pairs import Batch
from ashneuro.data.shards import Stream, expand, load_streamed
from ashneuro.data.sources import load_splits
from ashneuro.data.stream_batches import StreamBatches
from ashneuro.data.tokens import build_vocabulary
from ashneuro.errors import ConfigError, DataError
from tests.data.shard_server import caption, picture, serve, write_shard, write_shards

pytest.importorskip("webdataset")

TRAIN = TrainConfig(batch_size=6, augment=0.2, word_dropout=0.3, seed=3)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASHNEURO_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shards, "PAUSE_S", 0.0)


def streamed(source: object, **settings: Any) -> DataConfig:
    return DataConfig(source=str(source), stream=True, image_size=8, max_words=8, **settings)


def batches(data: DataConfig, train: TrainConfig = TRAIN, shard: tuple[int, int] = (0, 1)) -> StreamBatches:
    stream = Stream(data)
    survey = stream.survey()
    words = build_vocabulary(text for sample in survey.samples for text in sample.captions)
    return StreamBatches(stream, survey, words, data, train, views=True, shard=shard)


def assert_equal(one: Batch, other: Batch) -> None:
    assert one.keys == other.keys
    for name in ("images", "views", "tokens", "concepts", "texts"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_shards_over_http_are_those_of_the_disk(tmp_path: Path) -> None:
    pattern = write_shards(tmp_path / "data", 4, 6)
    local = [sample for sample in Stream(streamed(tmp_path / "data" / pattern)).first(99)]
    assert [sample.captions for sample in local] == [(caption(number),) for number in range(24)]
    records, _ = read_webdataset(tmp_path / "data")
    assert [sample.picture for sample in local] == [record.read() for record in records if record.read]
    with serve(tmp_path / "data") as (address, asked):
        assert list(Stream(DataConfig(source=f"{address}/{pattern}")).first(99)) == local
        assert Counter(asked) == {f"train-00{number}.tar": 1 for number in range(4)}, "one request a shard"
    assert list(Stream(streamed(f"file://{tmp_path / 'data'}/{pattern}")).first(99)) == local
    assert list(Stream(streamed(tmp_path / "data")).first(99)) == local, "a folder of shards"


def test_names_of_shards(tmp_path: Path) -> None:
    write_shards(tmp_path, 2, 1)
    assert expand("s3://b/{a,b}-{08..10}.tar") == [f"s3://b/{x}-{n}.tar" for x in "ab" for n in ("08", "09", "10")]
    assert expand(f"{tmp_path}::https://h/x.tar") == [
        str(tmp_path / "train-000.tar"),
        str(tmp_path / "train-001.tar"),
        "https://h/x.tar",
    ]
    assert expand("") == []
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no shards"):
        expand(str(tmp_path / "empty"))


def test_an_epoch_is_every_pair_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    write_shards(tmp_path, 4, 6)
    data = streamed(tmp_path, epoch_pairs=24)
    assert len(batches(data)) == 4
    train = replace(TRAIN, batch_size=8)
    keys = [[key for batch in batches(data, train).epoch(epoch) for key in batch.keys] for epoch in (0, 1)]
    for own in keys:
        assert len(own) == len(set(own)) == 24
    assert keys[0] != keys[1]
    other = [key for batch in batches(data, replace(train, seed=4)).epoch(0) for key in batch.keys]
    assert other != keys[0]


@pytest.mark.parametrize("skip", [False, True])
def test_a_resumed_epoch_goes_on_with_the_same_batches(tmp_path: Path, skip: bool) -> None:
    write_shards(tmp_path, 3, 9)
    if skip:
        write_shard(
            tmp_path / "train-003.tar", {"a.png": b"no picture", "a.txt": b"a", "b.png": picture(7), "b.txt": b"b"}
        )
    data = streamed(tmp_path, skip_broken=skip)
    whole, rest = list(batches(data).epoch(2)), list(batches(data).epoch(2, start=2))
    assert len(whole) == 4 and len(rest) == 2
    for one, other in zip(whole[2:], rest, strict=True):
        assert_equal(one, other)


@pytest.mark.parametrize("processes", [2, 3, 6])
def test_processes_share_the_batches_of_one(tmp_path: Path, processes: int) -> None:
    write_shards(tmp_path, 4, 6)
    data = streamed(tmp_path)
    whole = list(batches(data).epoch(0))
    parts = [list(batches(data, shard=(rank, processes)).epoch(0)) for rank in range(processes)]
    for number, batch in enumerate(whole):
        own = [part[number] for part in parts]
        assert tuple(itertools.chain.from_iterable(one.keys for one in own)) == batch.keys
        for name in ("images", "views", "concepts", "texts"):
            assert torch.equal(torch.cat([getattr(one, name) for one in own]), getattr(batch, name)), name


@pytest.mark.parametrize(
    ("shards_", "batch", "processes", "lanes"),
    [(4, 6, 1, 3), (4, 6, 3, 3), (100, 512, 1, 4), (96, 512, 8, 16), (97, 512, 1, 16), (1, 8, 4, 1), (64, 64, 32, 32)],
)
def test_lanes_divide_the_batch_and_the_shards(shards_: int, batch: int, processes: int, lanes: int) -> None:
    stream = Stream(streamed("{" + f"0..{shards_ - 1}" + "}.tar"))
    assert stream.lanes(processes, batch) == lanes


def test_a_process_reads_its_own_shards_alone(tmp_path: Path) -> None:
    pattern = write_shards(tmp_path, 4, 6)
    with serve(tmp_path) as (address, asked):
        data = DataConfig(source=f"{address}/{pattern}", image_size=8, max_words=8)
        mine = batches(data, replace(TRAIN, batch_size=8), shard=(1, 2))
        asked.clear()
        list(mine.epoch(0))
        assert len(set(asked)) == 2, "half of the shards, in half of the lanes"


def test_memory_is_bounded(tmp_path: Path) -> None:
    """Ten times what may wait in memory passes through, and is shuffled within that."""
    write_shards(tmp_path, 2, 100, side=64)
    total = sum(file.stat().st_size for file in tmp_path.glob("*.tar"))
    limit = total // 12
    stream = Stream(streamed(tmp_path), buffer=limit)
    next(stream.first(1))  # libraries are imported
    tracemalloc.start()
    keys = [sample.key for sample in itertools.islice(stream.lane(0, 0, 0, 1), 200)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total > 10 * limit and peak < 2 * limit, f"{peak:,} of {limit:,} bytes"
    assert len(set(keys)) == 200 and keys != sorted(keys)


def test_equal_captions_are_no_negatives(tmp_path: Path) -> None:
    members = {}
    for number in range(8):
        members[f"{number}.png"] = picture(number)
        members[f"{number}.json"] = f'{{"caption": ["a cat", "one {number // 2 * 2}"]}}'.encode()
    write_shard(tmp_path / "a.tar", members)
    (batch,) = batches(streamed(tmp_path), replace(TRAIN, batch_size=8)).epoch(0)
    assert batch.texts is not None and batch.texts.shape == (8, 3) and (batch.texts >= 0).all()
    assert len(set(batch.concepts.tolist())) == 4, "pairs with equal captions are of one concept"
    cat = Counter(batch.texts.flatten().tolist()).most_common(1)[0][0]
    assert (batch.texts[:, 1:] == cat).any(1).all(), "the text that all of them have"


def damaged(folder: Path) -> DataConfig:
    good = {f"{number}.png": picture(number) for number in range(6)}
    good |= {f"{number}.txt": caption(number).encode() for number in range(6)}
    write_shard(folder / "a.tar", dict(sorted(good.items())))
    bad = {"x.txt": b"no picture", "y.png": picture(90), "z.png": b"\x89PNG no picture", "z.txt": b"z"}
    write_shard(folder / "b.tar", {**bad, "v.png": picture(91), "v.txt": b"the last one"})
    (folder / "c.tar").write_bytes((folder / "a.tar").read_bytes()[:2000])
    return streamed(f"{folder}/{{a,b,c,d}}.tar")


def test_damage_is_an_error_that_names_all_of_it(tmp_path: Path) -> None:
    data = damaged(tmp_path)
    with pytest.raises(DataError) as error:
        Stream(data).survey()
    text = str(error.value)
    assert "b.tar/x: has no picture, only txt" in text and "b.tar/y: has no caption" in text
    assert "c.tar: unexpected end of data" in text and "d.tar: there is no such file" in text
    assert "4 problem(s)" in text and "--skip-broken" in text and "object at 0x" not in text
    write_shard(tmp_path / "e.tar", {"a.png": b"no picture", "a.txt": b"a", "b.png": picture(0), "b.txt": b"b"})
    with pytest.raises(DataError, match=r"e\.tar/a\.png: it is not an image"):
        list(batches(streamed(tmp_path / "e.tar"), replace(TRAIN, batch_size=2)).epoch(0))


def test_broken_members_are_left_out_and_counted(tmp_path: Path) -> None:
    data = replace(damaged(tmp_path), skip_broken=True)
    made = batches(data, replace(TRAIN, batch_size=4))
    keys = [key for epoch in range(4) for batch in made.epoch(epoch) for key in batch.keys]
    assert not any("z.png" in key for key in keys) and any("v.png" in key for key in keys)
    left = list(made._stream.left_out)
    assert len(left) == made._stream.left == 5, left
    assert sum("b.tar/z.png" in line for line in left) == 1, "a picture that cannot be decoded"


def test_shards_of_nothing_but_damage_end(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", {"a.png": b"none", "a.txt": b"a", "b.png": b"none", "b.txt": b"b"})
    data = streamed(tmp_path, skip_broken=True)
    with pytest.raises(DataError, match="no pictures that can be decoded"):
        list(batches(data, replace(TRAIN, batch_size=2)).epoch(0))
    (tmp_path / "a.tar").write_bytes(b"")
    with pytest.raises(DataError, match="has no pairs"):
        Stream(data).survey()


def test_a_broken_connection_is_tried_again(tmp_path: Path) -> None:
    pattern = write_shards(tmp_path, 2, 40)
    with serve(tmp_path, {"train-001.tar": 2}) as (address, asked):
        data = DataConfig(source=f"{address}/{pattern}")
        found = [sample.key for sample in Stream(data).first(99)]
        assert len(found) == len(set(found)) == 80, "no sample is lost, and none comes twice"
        assert asked.count("train-001.tar") == 3
    with serve(tmp_path, {"train-001.tar": 99}) as (address, _):
        data = DataConfig(source=f"{address}/{pattern}")
        with pytest.raises(DataError, match=r"train-001\.tar: "):
            list(Stream(data).first(99))
        skipping = Stream(replace(data, skip_broken=True))
        assert 40 <= len(list(skipping.first(99))) < 80 and skipping.left == 1
    data = DataConfig(source=f"{address}/{pattern}")
    with pytest.raises(DataError, match=r"train-000\.tar: .*[Cc]onnect"):
        list(Stream(data).first(1))


def test_missing_shards_of_a_server(tmp_path: Path) -> None:
    write_shards(tmp_path, 1, 2)
    with serve(tmp_path) as (address, asked), pytest.raises(DataError, match="the server answers 404"):
        list(Stream(DataConfig(source=f"{address}/nowhere.tar")).first(1))
    assert asked.count("nowhere.tar") <= 1, "what is not there is not asked for again"
    with pytest.raises(DataError, match="cannot open gopher"):
        list(Stream(DataConfig(source="gopher://host/a.tar")).first(1))


def test_survey_counts_once_or_reads_what_is_asked_for(tmp_path: Path) -> None:
    pattern = write_shards(tmp_path, 5, 4)
    with serve(tmp_path) as (address, asked):
        data = DataConfig(source=f"{address}/{pattern}", vocabulary_pairs=6)
        survey = Stream(data).survey()
        assert (survey.pairs, len(survey.samples)) == (20, 6) and len(asked) == 5
        assert Stream(data).survey() == survey and len(asked) == 5, "it is kept"
        some = Stream(replace(data, epoch_pairs=12)).survey()
        assert (some.pairs, some.samples) == (12, survey.samples) and len(asked) == 7, "two shards are enough"


def test_held_out_shards(tmp_path: Path) -> None:
    train = write_shards(tmp_path, 2, 6)
    held = write_shards(tmp_path, 1, 5, first=100, name="held")
    data = streamed(tmp_path / train, test=str(tmp_path / held))
    splits = load_splits(data)
    assert splits.stream is not None and (len(splits.train), len(splits.validation), len(splits.test)) == (12, 0, 5)
    assert splits.test[3].captions == (caption(103),) and splits.test[3].load().shape == (8, 8, 3)
    assert splits.name == f"{train}, streamed; held out: {held}"
    with pytest.raises(ConfigError, match=r"data\.test is not set"):
        load_streamed(replace(data, test=""))
    with pytest.raises(ConfigError, match=r"is in data\.source and held out"):
        load_streamed(replace(data, test=str(tmp_path / "train-001.tar")))
    with pytest.raises(ConfigError, match="WebDataset shards are what can be read as a stream"):
        load_streamed(replace(data, format="coco"))
    with pytest.raises(ConfigError, match=r"(?s)data\.test = .*belongs to shards that are read as a stream"):
        load_splits(replace(data, stream=False))
    with pytest.raises(ConfigError, match=r"train\.cache_features with data\.stream"):
        batches(data, replace(TRAIN, cache_features=True))


def test_members_that_webdataset_would_lose_are_told(tmp_path: Path) -> None:
    apart = {"a.png": picture(0), "b.png": picture(1), "a.txt": b"a", "b.txt": b"b"}
    write_shard(tmp_path / "apart.tar", apart)
    with pytest.raises(DataError, match="next to each other"):
        Stream(streamed(tmp_path / "apart.tar")).survey()
    whole = {
        "./x/a.png": picture(0),
        "./x/a.txt": b"a\nb\n",
        "x/._a.txt": b"macOS",
        "c.d.JPG": picture(1),
        "c.txt": b"c",
    }
    write_shard(tmp_path / "whole.tar", whole)
    found = list(Stream(streamed(tmp_path / "whole.tar")).first(9))
    assert [(sample.key, sample.captions) for sample in found] == [
        ("whole.tar/x/a.png", ("a", "b")),
        ("whole.tar/c.d.jpg", ("c",)),
    ]
