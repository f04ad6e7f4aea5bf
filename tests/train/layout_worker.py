"""One rank of a job that takes and clips the gradients of one batch: ep, micro-batch, output, `keep` or `recompute`."""

import sys

import torch

from marco_data.train.config import CONFIGS
from marco_data.train.loss import labels_of
from marco_data.train.model import initial_weight
from marco_data.train.optimizer import clip_gradients, gradient_norm
from marco_data.train.parallel import Computing, end_process, join, sharded
from marco_data.train.settings import Coefficients
from marco_data.train.step import forward_backward


def main():
    ep, micro_batch, out, recompute = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4] == "recompute"
    config = CONFIGS["tiny-moe"]
    world = join(ep)

    def weights(name, shape):
        return initial_weight(name, shape, config, 0).double() * (1 if len(shape) == 1 else 5)

    computing = Computing(dtype=torch.float64, master=torch.float64, recompute=recompute)
    model = sharded(config, world, weights, computing)
    tokens = torch.randint(0, config.vocab_size, (4, 65), generator=torch.Generator().manual_seed(3))
    own = tokens[world.rank * 4 // world.ranks : (world.rank + 1) * 4 // world.ranks]
    load = torch.arange(1, config.num_experts + 1, dtype=torch.int64).repeat(config.num_hidden_layers, 1) ** 2
    coefficients = Coefficients(1.0, 0.001)
    done = forward_backward(model, world, own[:, :-1], labels_of(own), None, micro_batch, coefficients, load)
    norm = gradient_norm(model.parameters(), world)
    clip_gradients(model.parameters(), norm, float(norm) / 2)
    whole = {name: parameter.grad.full_tensor() for name, parameter in model.named_parameters()}
    if world.rank == 0:
        said = {"loss": done.loss, "aux": done.aux, "z": done.z, "norm": float(norm)}
        torch.save(said | {"gradients": whole, "load": done.load}, out)
    # Nobody leaves before all are done: gloo ends a process whose threads still wait for another that has gone.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    end_process()


main()
