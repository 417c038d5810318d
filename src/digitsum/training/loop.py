"""The training loop: all data on the device, one pass over all pairs an epoch, weights averaged on the way."""

import math
from collections.abc import Callable
from typing import cast

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from digitsum.core.errors import DigitsumError
from digitsum.core.numerics import configure_torch
from digitsum.data.generators import derived_seed
from digitsum.data.splits import Split
from digitsum.model.network import Network, new_network
from digitsum.training.batches import batches
from digitsum.training.checkpoint import Checkpoint, TrainingState
from digitsum.training.devices import compiled, set_precision
from digitsum.training.history import EpochResult
from digitsum.training.loss import Scores, batch_totals, mean_scores, pair_losses
from digitsum.training.optimizer import new_optimizer
from digitsum.training.params import Train, TrainingParams

VALIDATION_BATCH = 250  # pairs at once; fixed, because sums of floats depend on how they are grouped
FEWEST_STEPS = 10


def train_network(
    params: TrainingParams,
    training: Split,
    validation: Split,
    device: torch.device,
    checkpoint: Checkpoint | None = None,
    on_epoch: Callable[[list[EpochResult]], None] | None = None,
) -> tuple[Network, list[EpochResult]]:
    """Build a network from `params.train.seed` and train it; return it with averaged weights, on the CPU, in eval mode.

    All randomness of an epoch is a function of (seed, epoch). Nothing is chosen by looking at validation: the last
    average is kept.
    Raises DigitsumError if there are too few steps, or if the loss becomes NaN or infinite.

    Args:
        params: the groups model, train and compute.
        training, validation: splits, on the CPU; `validation` is scored after every epoch.
        device: where to train, see `choose_device`.
        checkpoint: saved on the way; a run that was killed continues from it to the same bits.
        on_epoch: called after every epoch with the results so far; after resuming, at once with those saved.
    """
    train = params.train
    configure_torch(params.compute)
    precision = set_precision(train.precision)
    torch.manual_seed(train.seed)  # for the initial weights
    network = new_network(params.model, training).to(device)
    forward = compiled(network.forward_pixels) if train.compile else network.forward_pixels
    # The running average follows the network and becomes the model; without one the network itself does.
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(train.average_decay), use_buffers=True)
    scored = cast(Network, averaged.module) if train.average_decay else network
    training, validation = training.to(device), validation.to(device)

    steps, all_steps = _count_steps(len(training), train)
    optimizer, schedule = new_optimizer(network, train, all_steps)
    state = TrainingState(network, averaged, optimizer, schedule, totals=torch.zeros(5, device=device))
    if checkpoint:
        checkpoint.restore(state)
    if state.results and on_epoch:
        on_epoch(state.results)

    for epoch in range(state.epoch, math.ceil(train.epochs) + 1):
        network.train()
        last_step = min(steps, all_steps - (epoch - 1) * steps)  # fewer if `epochs` is not whole
        with tqdm(
            total=last_step, initial=state.step, desc=f"epoch {epoch}/{train.epochs:g}", leave=False, disable=None
        ) as bar:
            for pixels, digits, numbers, warps in batches(training, train, epoch, state.step, last_step):
                torch.manual_seed(derived_seed("layers", train.seed, epoch, state.step))  # for layers such as dropout
                digit_logits, sum_logits = forward(pixels, numbers, warps, precision)
                losses = pair_losses(digit_logits, sum_logits, digits, numbers, train)
                optimizer.zero_grad()
                torch.lerp(*losses, train.sum_loss_share).backward()  # see mean_scores
                optimizer.step()
                schedule.step()
                if train.average_decay:
                    averaged.update_parameters(network)
                # Read once an epoch: reading the loss every step would make a GPU wait.
                state.totals += batch_totals(digit_logits, sum_logits, digits, numbers, losses)
                state.step += 1
                bar.update()
                if checkpoint and checkpoint.is_due():
                    checkpoint.save(state)
        pairs = min(state.step * train.batch_size, len(training))
        scores = mean_scores(state.totals, pairs, train), validate(scored, validation, train)
        _refuse_divergence(epoch, *scores, train)
        state.results.append(EpochResult(epoch, *scores))
        state.epoch, state.step = epoch + 1, 0
        state.totals.zero_()
        if checkpoint:
            checkpoint.save(state)
        if on_epoch:
            on_epoch(state.results)

    network.load_state_dict(scored.state_dict())
    return network.cpu().eval(), state.results


@torch.no_grad()
def validate(network: Network, split: Split, params: Train) -> Scores:
    """Return the scores of `network` on `split`, both on one device; leave the network in eval mode."""
    network.eval()
    totals = []
    for start in range(0, len(split), VALIDATION_BATCH):
        images, digits, numbers = split[start : start + VALIDATION_BATCH]
        logits = network.forward_pixels(images.float(), numbers)
        losses = pair_losses(*logits, digits, numbers, params)
        totals.append(batch_totals(*logits, digits, numbers, losses))
    return mean_scores(torch.stack(totals).cpu().double().sum(dim=0), len(split), params)


def _count_steps(pairs: int, train: Train) -> tuple[int, int]:
    """Return the steps of a whole epoch, and of all of training."""
    steps = math.ceil(pairs / train.batch_size)
    all_steps = math.ceil(steps * train.epochs)
    if all_steps < FEWEST_STEPS:
        raise DigitsumError(
            f"params.yaml: train.epochs is {train.epochs:g}, which is {all_steps} steps of {train.batch_size} pairs; "
            f"the learning rate needs {FEWEST_STEPS} to climb and fall. Raise train.epochs or lower train.batch_size"
        )
    return steps, all_steps


def _refuse_divergence(epoch: int, training: Scores, validation: Scores, train: Train) -> None:
    if not (math.isfinite(training.loss) and math.isfinite(validation.loss)):
        raise DigitsumError(
            f"training diverged: in epoch {epoch} the training loss is {training.loss:g}, the validation loss "
            f"{validation.loss:g}. Lower train.lr (now {train.lr:g}) in params.yaml and run again; no model was written"
        )
