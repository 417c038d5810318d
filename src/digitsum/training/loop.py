"""The training loop: all data on the device, one pass over all pairs an epoch, weights averaged on the way."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from tqdm import tqdm

from digitsum.core.errors import DigitsumError
from digitsum.core.numerics import configure_torch, in_threads
from digitsum.data.splits import Split
from digitsum.model.network import Network, new_network
from digitsum.training.average import RunningAverage
from digitsum.training.batches import batches, count_steps, epoch_steps
from digitsum.training.calibration import fit_temperatures, fitted_limits
from digitsum.training.checkpoint import Checkpoint, TrainingState
from digitsum.training.history import EpochResult
from digitsum.training.loss import Scores, batch_totals, mean_scores, pair_losses
from digitsum.training.optimizer import new_optimizer
from digitsum.training.params import Train, TrainingParams
from digitsum.training.shards import TOTALS, ShardedNetwork
from digitsum.training.workers import Workers

VALIDATION_BATCH = 250  # pairs at once; fixed, because sums of floats depend on how they are grouped
FEWEST_STEPS = 10


def train_network(
    params: TrainingParams,
    training: Split,
    validation: Split,
    device: torch.device,
    workers: Workers | None = None,
    checkpoint: Checkpoint | None = None,
    on_epoch: Callable[[list[EpochResult]], None] | None = None,
) -> tuple[Network, list[EpochResult]]:
    """Build a network from `params.train.seed` and train it; return it with averaged weights, on the CPU, in eval mode.

    All randomness of an epoch is a function of (seed, epoch). Nothing is chosen by looking at validation, but for the
    temperatures and limits: the last average is kept.
    Raises DigitsumError if there are too few steps, or if the loss becomes NaN or infinite.

    Args:
        params: the groups model, train and compute.
        training, validation: splits, on the CPU; `validation` is scored after every epoch.
        device: where to train, see `choose_device`.
        workers: who computes the shards of a batch, see `start_workers`; without them this process does. Same bits.
        checkpoint: saved on the way; a run that was killed continues from it to the same bits.
        on_epoch: called after every epoch with the results so far; after resuming, at once with those saved.
    """
    train, workers = params.train, workers or Workers()
    configure_torch(params.compute)
    torch.manual_seed(train.seed)  # for the initial weights
    network = new_network(params.model, training).to(device)
    sharded = ShardedNetwork(network, train)
    # The running average follows the network and becomes the model; without one the network itself does.
    average = RunningAverage(network, train.average_decay)
    scored = average.network if train.average_decay else network
    training, validation = training.to(device), validation.to(device)

    optimizer, schedule = new_optimizer(network, train, _enough_steps(len(training), train))
    state = TrainingState(network, average, optimizer, schedule, totals=torch.zeros(TOTALS, device=device))
    if checkpoint:
        checkpoint.restore(state)
    if state.results and on_epoch:
        on_epoch(state.results)

    workers.begin(params, sharded, training, state.epoch, state.step)
    logits = None
    for epoch, first_step, last_step in epoch_steps(len(training), train, state.epoch, state.step):
        network.train()
        with tqdm(
            total=last_step, initial=first_step, desc=f"epoch {epoch}/{train.epochs:g}", leave=False, disable=None
        ) as bar:
            for batch in batches(training, train, epoch, first_step, last_step, 0, workers.count):
                workers.broadcast(sharded)
                gradients = workers.gather(sharded.gradients(batch), batch.shards)
                # Read once an epoch: reading the loss every step would make a GPU wait.
                state.totals += sharded.apply(gradients)
                optimizer.step()
                schedule.step()
                if train.average_decay:
                    average.update()
                state.step += 1
                bar.update()
                if checkpoint and checkpoint.is_due():
                    checkpoint.save(state)
        pairs = min(state.step * train.batch_size, len(training))
        logits = validation_logits(scored, validation)
        scores = mean_scores(state.totals, pairs, train), scores_of(logits, validation, train)
        _refuse_divergence(epoch, *scores, train)
        state.results.append(EpochResult(epoch, *scores))
        state.epoch, state.step = epoch + 1, 0
        state.totals.zero_()
        if checkpoint:
            checkpoint.save(state)
        if on_epoch:
            on_epoch(state.results)

    network.load_state_dict(scored.state_dict())
    logits = logits or validation_logits(network, validation)
    fit_temperatures(network, validation, *logits)
    network.limits = fitted_limits(network, validation, logits[0])
    return network.cpu().eval(), state.results


def validation_logits(network: Network, split: Split) -> tuple[Tensor, Tensor]:
    """Return the logits of digits [P, 10] and sums [P, 19] for all pairs; leave the network in eval mode."""
    network.eval()

    @torch.no_grad()
    def logits_of(part: slice) -> tuple[Tensor, Tensor]:
        images, _, numbers = split[part]
        return network.forward_pixels(images.float(), numbers)

    parts = [slice(start, start + VALIDATION_BATCH) for start in range(0, len(split), VALIDATION_BATCH)]
    digit_logits, sum_logits = zip(*in_threads(logits_of, parts, split.images.device.type), strict=True)
    return torch.cat(digit_logits), torch.cat(sum_logits)


def scores_of(logits: tuple[Tensor, Tensor], split: Split, params: Train) -> Scores:
    """Return the scores of these logits for all pairs of `split`."""
    digits, numbers = split.digits[split.image_index].long(), split.numbers.long()
    totals = batch_totals(*logits, digits, numbers, pair_losses(*logits, digits, numbers, params))
    return mean_scores(totals.cpu().double(), len(split), params)


def _enough_steps(pairs: int, train: Train) -> int:
    """Return the steps of all of training. Raises DigitsumError if they are too few."""
    _, all_steps = count_steps(pairs, train)
    if all_steps < FEWEST_STEPS:
        raise DigitsumError(
            f"params.yaml: train.epochs is {train.epochs:g}, which is {all_steps} steps of {train.batch_size} pairs; "
            f"the learning rate needs {FEWEST_STEPS} to climb and fall. Raise train.epochs or lower train.batch_size"
        )
    return all_steps


def _refuse_divergence(epoch: int, training: Scores, validation: Scores, train: Train) -> None:
    if not (math.isfinite(training.loss) and math.isfinite(validation.loss)):
        raise DigitsumError(
            f"training diverged: in epoch {epoch} the training loss is {training.loss:g}, the validation loss "
            f"{validation.loss:g}. Lower train.lr (now {train.lr:g}) in params.yaml and run again; no model was written"
        )
