"""Two processes that train together do what one does with the doubled batch."""

import multiprocessing
import os
import socket

import pytest
import torch
import torch.distributed as dist

from tests.training.conftest import CPU, SCALAR, VECTOR, of, train
from vqcli.data.dataset import Dataset
from vqcli.data.shapes import Shapes
from vqcli.errors import VqError
from vqcli.nets.layers import distributed
from vqcli.nets.layers.quantizer import VectorQuantizer
from vqcli.training import checkpoint, loop, run
from vqcli.training.log import RunLog
from vqcli.training.tasks import codec


def together(work, *args):
    """Run work(rank, *args) in two processes that know each other, and return both results."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vqcli.training.run"])
    results = context.Queue()
    children = [context.Process(target=_child, args=(work, rank, port, results, args)) for rank in range(2)]
    for child in children:
        child.start()
    found = dict(results.get(timeout=120) for _ in children)
    for child in children:
        child.join()
    for result in found.values():
        if isinstance(result, Exception):
            raise result
    return found[0], found[1]


def _child(work, rank, port, results, args):
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    try:
        run.join("cpu")
        results.put((rank, work(rank, *args)))
    except Exception as error:
        results.put((rank, error))
    finally:
        dist.destroy_process_group()


def trained(rank, chosen, folder):
    torch.manual_seed(0)
    task = codec.CodecTask(chosen)
    dataset, state = Dataset(Shapes(count=400), held_out=False), loop.State(threads=1)
    journal = RunLog(folder, None) if rank == 0 else None
    loop.train(task, dataset, None, folder, state, journal, device=CPU)
    if journal is not None:
        journal.close()
    return {name: tensor.detach().numpy() for name, tensor in checkpoint.tensors_of(task).items()}


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        (VECTOR, ["model.arguments.quantizer.revive=0.5"]),
        (VECTOR, ["model.arguments.quantizer.update=loss", "model.arguments.quantizer.levels=2"]),
        (SCALAR, []),
    ],
    ids=["ema", "loss", "scalar"],
)
def test_two_processes_equal_one_with_the_doubled_batch(tmp_path, text, settings):
    """Codebooks agree on both ranks bit for bit, and with one process within float error, revival included."""
    short = of(text, "optimization.steps=6", "data.batch=8", "optimization.learning_rate=1e-3", *settings)
    first, second = together(trained, short, tmp_path)
    for name in first:
        if name != "usage":  # each rank counts its own codes; the epoch adds them up
            assert (first[name] == second[name]).all(), name
    alone, _ = train(of(short.to_toml(), "data.batch=16"), tmp_path / "alone")
    for name, tensor in checkpoint.tensors_of(alone).items():
        if name != "usage":
            assert torch.allclose(tensor.float(), torch.from_numpy(first[name]).float(), atol=2e-4), name


def quantized(rank, levels):
    torch.manual_seed(0)
    quantizer = VectorQuantizer(dim=4, K=8, levels=levels, revive=0.9).train()
    rows = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
    for _ in range(3):
        quantizer(rows[rank * 32 : rank * 32 + 32, :, None])
    return quantizer.codebook.detach().numpy()


def test_revival_takes_rows_of_all_ranks():
    first, second = together(quantized, 2)
    assert (first == second).all()
    torch.manual_seed(0)
    alone = VectorQuantizer(dim=4, K=8, levels=2, revive=0.9).train()
    rows = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
    for _ in range(3):
        alone(rows[:, :, None])
    assert torch.allclose(alone.codebook, torch.from_numpy(first), atol=1e-5)


def shared(rank):
    numbers = distributed.rand(3, 2, device=CPU)
    rows = torch.arange(8.0).reshape(4, 2) + 8 * rank
    return (
        numbers.tolist(),
        distributed.rows_at(rows, torch.tensor([0, 5, 3, 7])).tolist(),
        distributed.from_first(rank + 1.0),
    )


def test_what_ranks_share():
    first, second = together(_seeded)
    torch.manual_seed(3)
    assert first[0] + second[0] == torch.rand(6, 2).tolist()
    assert first[1] == second[1] == [[0, 1], [10, 11], [6, 7], [14, 15]]
    assert first[2] == second[2] == 1.0


def _seeded(rank):
    torch.manual_seed(3)
    return shared(rank)


def failing(rank):
    raise VqError("told")


def test_an_error_in_a_process_is_seen():
    with pytest.raises(VqError, match="told"):
        together(failing)
