"""CUDA graphs: the bits of shards that are computed kernel by kernel. Those that need a GPU run in `make gpu`."""

import gc
import weakref
from types import SimpleNamespace

import pytest
import torch
from harness.training import make_network, settings, train, weights_of
from torch import nn

from digitsum.model.trunks import TRUNKS
from digitsum.training import shards
from digitsum.training.batches import Shard, batches
from digitsum.training.graphs import Recorder
from digitsum.training.shards import ShardedNetwork


def test_a_recording_is_made_for_each_shape_and_replayed_with_new_inputs(splits, monkeypatch):
    made = []

    def record(self, function, shard, pairs):
        made.append((len(shard.digits), pairs, shard.warps is None))
        inputs = Shard(shard.place, *(None if part is None else torch.zeros_like(part) for part in shard[1:]))
        output = torch.empty(0)

        def replay():
            value = function(inputs, pairs)
            output.resize_(value.shape).copy_(value)

        return SimpleNamespace(replay=replay), inputs, output

    monkeypatch.setattr(Recorder, "_record", record)
    params = settings(epochs=2, clean_epochs=1, batch_size=40, shards=3)
    rows = []
    for replays in (False, True):
        torch.manual_seed(0)
        sharded = ShardedNetwork(make_network(trunk="small").train(), params)
        sharded.recorder = Recorder([]) if replays else None
        rows.append([sharded.gradients(b) for epoch in (1, 2) for b in batches(splits["train"], params, epoch, 0, 9)])
    assert all(torch.equal(computed, replayed) for computed, replayed in zip(*rows, strict=True))
    assert len(made) == len(set(made)) == 6  # shards of 14, 13, and of the last batch 10; with warps and without


def test_recordings_are_freed_with_their_network_not_at_a_later_time(monkeypatch):
    graph, digits = SimpleNamespace(replay=lambda: None), torch.zeros(5, dtype=torch.int64)
    monkeypatch.setattr(Recorder, "_record", lambda self, function, shard, pairs: (graph, shard, torch.zeros(1)))
    sharded = ShardedNetwork(make_network(trunk="small"), settings())
    sharded.recorder = Recorder(list(sharded.network.buffers()))
    sharded.recorder(sharded._compute, Shard(0, torch.zeros(5, 28, 28), digits, digits, None), 5)
    recorder = weakref.ref(sharded.recorder)
    gc.disable()
    del sharded
    try:
        assert recorder() is None
    finally:
        gc.enable()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("shards_", [1, 3])
def test_replayed_shards_have_the_bits_of_those_computed_one_by_one(splits, monkeypatch, shards_):
    def with_dropout():
        trunk = TRUNKS["small"]()
        trunk.embed.append(nn.Dropout())
        return trunk

    monkeypatch.setitem(TRUNKS, "strided", with_dropout)
    replayed, _ = train(splits, device=torch.device("cuda"), shards=shards_)
    monkeypatch.setattr(shards, "Recorder", lambda buffers: None)
    computed, _ = train(splits, device=torch.device("cuda"), shards=shards_)
    assert torch.equal(weights_of(replayed), weights_of(computed))
