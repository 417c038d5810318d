"""Training on sums, and what the network then answers."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from digitsum.core.numerics import configure_torch
from digitsum.data.generators import derived_seed, generator
from digitsum.evaluation.predict import encode_images
from digitsum.model.network import Network, normalisation
from digitsum.training.average import RunningAverage
from digitsum.training.batches import affine_maps, draw_warps
from digitsum.training.optimizer import new_optimizer
from digitsum.training.params import Train, TrainingParams
from studies.mnist_add.addition import add, log_probability
from studies.mnist_add.sums import Addition, Examples


def train_network(params: TrainingParams, addition: Addition, examples: Examples) -> Network:
    """Build a network from `params.train.seed` and train it; return it with averaged weights, in eval mode.

    Args:
        params: the groups model, train and compute; `train.batch_size` counts images.
        addition: the task; `first_smoothing` smooths the labels in the `first_part` of the steps.
        examples: the sums to train on.
    """
    train = params.train
    configure_torch(params.compute)
    torch.manual_seed(derived_seed("network", train.seed))
    network = Network(params.model, *normalisation(examples.images)).train()
    average = RunningAverage(network, train.average_decay)
    per_step = sums_per_step(train, examples)
    per_epoch = math.ceil(len(examples.rows) / per_step)
    steps = math.ceil(per_epoch * train.epochs)
    optimizer, schedule = new_optimizer(network, train, steps)
    for step in range(steps):
        if step % per_epoch == 0:
            epoch = 1 + step // per_epoch
            draws = generator("epoch", train.seed, epoch)
            parts = examples.rows[torch.randperm(len(examples.rows), generator=draws)].split(per_step)
        rows = parts[step % per_epoch]
        clean = step >= steps - train.clean_epochs * per_epoch
        warps = None if clean else affine_maps(draw_warps(rows.numel(), draws), train)
        logits, _ = network.encode(examples.images[rows.flatten()].float(), warps)
        smoothing = addition.first_smoothing if step < addition.first_part * steps else train.label_smoothing
        loss = mean_loss(logits, examples.digits[rows], addition.labels, smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        average.update()
    return average.network.eval()


def sums_per_step(train: Train, examples: Examples) -> int:
    """Return how many sums have at most `train.batch_size` images, one at least."""
    return max(1, train.batch_size // examples.rows[0].numel())


def mean_loss(logits: Tensor, digits: Tensor, labels: str, smoothing: float) -> Tensor:
    """Return the mean loss of an image, in nats: minus the log-probability of the labels, smoothed.

    Smoothing takes a part of the loss from the cross-entropy with a uniform distribution over the digits.

    Args:
        logits: of the images, float [B * 2 * N, 10].
        digits: of the images, int64 [B, 2, N]; with labels "sums" only their sums are used.
        labels: "sums" or "digits".
        smoothing: 0 to 1.
    """
    log_digits = functional.log_softmax(logits, dim=1)
    if labels == "sums":
        log_correct = log_probability(log_digits.view(*digits.shape, 10), add(digits)).sum() / digits.numel()
    else:
        log_correct = log_digits.gather(1, digits.view(-1, 1)).mean()
    return -torch.lerp(log_correct, log_digits.mean(), smoothing)


def score(network: Network, examples: Examples) -> dict[str, float]:
    """Return which part of the digits and of the sums is correct; a sum is that of the most probable digits."""
    rows = examples.rows.flatten()
    predicted = encode_images(network, examples.images[rows]).digit_logits.argmax(dim=1)
    digits = (predicted == examples.digits[rows]).double().mean().item()
    sums = (add(predicted.view(examples.rows.shape)) == examples.sums).double().mean().item()
    return {"digits": round(digits, 5), "sums": round(sums, 5)}
