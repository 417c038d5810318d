"""The training loop: everything on the device, one pass over all pairs an epoch, weights averaged as they go."""

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from digitsum.data.splits import Split
from digitsum.errors import DigitsumError
from digitsum.model.fusions import possible_sums
from digitsum.model.network import Network
from digitsum.params import Train
from digitsum.randomness import derived_seed, generator
from digitsum.training.augment import affine_maps, draw_warps
from digitsum.training.checkpoint import Checkpoint, TrainingState
from digitsum.training.devices import compiled, set_precision

VALIDATION_BATCH = 250
FEWEST_STEPS = 10
WARPED_AT_ONCE = 32  # batches whose warps are drawn together: few transfers to a device, and little memory


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": functools.partial(torch.optim.AdamW, betas=(0.7, 0.9)),
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
}


SCHEDULES: dict[str, Callable[..., torch.optim.lr_scheduler.LRScheduler]] = {
    "one_cycle": functools.partial(
        torch.optim.lr_scheduler.OneCycleLR, pct_start=0.2, div_factor=10, final_div_factor=1000, cycle_momentum=False
    ),
    "constant": lambda optimizer, lr, steps: torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0),
}


class Scores(NamedTuple):
    """Means over pairs: losses in nats, `loss` the one that training makes small; accuracies in 0-1."""

    loss: float
    digit_loss: float
    sum_loss: float
    digit_accuracy: float
    sum_accuracy: float
    joint_accuracy: float


class EpochResult(NamedTuple):
    """What one epoch gave: how training met its batches, one after another, and how the averaged weights validate."""

    epoch: int
    training: Scores
    validation: Scores


def fit(
    network: Network,
    training: Split,
    validation: Split,
    params: Train,
    device: torch.device,
    checkpoint: Checkpoint | None = None,
) -> Iterator[EpochResult]:
    """Train `network` in place, giving a result after every epoch; after the last it holds the averaged weights.

    All randomness of an epoch is a function of (params.seed, epoch). Nothing is chosen by looking at validation:
    the learning rate falls to zero, and the last average is kept. With a `checkpoint` a run that was killed goes on
    where it was, first giving again the results that it had given.
    Raises DigitsumError if there are too few steps, or if the loss becomes NaN or infinite.
    """
    network.to(device)
    answer = compiled(network.answer) if params.compile else network.answer
    precision = set_precision(params.precision)
    training, validation = training.to(device), validation.to(device)
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(params.average_decay), use_buffers=True)
    scored = cast(Network, averaged.module) if params.average_decay else network
    steps = math.ceil(len(training) / params.batch_size)  # of a whole epoch
    all_steps = math.ceil(steps * params.epochs)
    if all_steps < FEWEST_STEPS:
        raise DigitsumError(
            f"params.yaml: train.epochs is {params.epochs:g}, which is {all_steps} steps of {params.batch_size} pairs; "
            f"the learning rate needs {FEWEST_STEPS} to climb and fall. Raise train.epochs or lower train.batch_size"
        )
    optimizer = OPTIMIZERS[params.optimizer](
        network.parameters(), lr=params.lr, weight_decay=params.weight_decay, fused=True
    )
    schedule = SCHEDULES[params.schedule](optimizer, params.lr, all_steps)

    # The loss is read once an epoch: reading it every step would halt a GPU.
    state = TrainingState(network, averaged, optimizer, schedule, totals=torch.zeros(5, device=device))
    random = checkpoint.restore(state) if checkpoint else None
    for epoch, *scores in state.results:
        yield EpochResult(epoch, *(Scores(*of_split) for of_split in scores))

    for epoch in range(state.epoch, math.ceil(params.epochs) + 1):
        network.train()
        batches = itertools.islice(_batches(training, params, epoch), all_steps - (epoch - 1) * steps)
        if state.step and random is not None:
            next(itertools.islice(batches, state.step - 1, None))
            torch.set_rng_state(random)
        with tqdm(
            total=steps, initial=state.step, desc=f"epoch {epoch}/{params.epochs:g}", leave=False, disable=None
        ) as bar:
            for pixels, digits, numbers, warps in batches:
                digit_logits, sum_logits = answer(pixels, numbers, warps, precision)
                losses = pair_losses(digit_logits, sum_logits, digits, numbers, params)
                optimizer.zero_grad()
                torch.lerp(*losses, params.sum_loss_share).backward()
                optimizer.step()
                schedule.step()
                if params.average_decay:
                    averaged.update_parameters(network)
                state.totals += batch_totals(digit_logits, sum_logits, digits, numbers, losses)
                state.pairs += len(digits)
                state.step += 1
                bar.update()
                if checkpoint and checkpoint.is_due():
                    checkpoint.save(state)
        result = EpochResult(epoch, _means(state.totals, state.pairs, params), _validate(scored, validation, params))
        if not (math.isfinite(result.training.loss) and math.isfinite(result.validation.loss)):
            raise DigitsumError(
                f"training diverged: in epoch {epoch} the training loss is {result.training.loss:g}, the validation "
                f"loss {result.validation.loss:g}. Lower train.lr (now {params.lr:g}) in params.yaml and run "
                "again; no model was written"
            )
        state.results.append(result)
        state.start_epoch(epoch + 1)
        if checkpoint:
            checkpoint.save(state)
        yield result

    network.load_state_dict(scored.state_dict())
    network.eval()


def pair_losses(
    digit_logits: Tensor, sum_logits: Tensor, digits: Tensor, numbers: Tensor, params: Train
) -> tuple[Tensor, Tensor]:
    """Give the batch's mean cross-entropies of the digit and of the sum, in nats.

    Label smoothing (Szegedy et al., arXiv 1512.00567) spreads a part of the target evenly over the ten digits, and
    over the ten sums that the number allows: the other nine sums are known to be wrong.
    digit_logits float [N, 10], sum_logits float [N, 19], digits and numbers int64 [N].
    """
    if params.softmax_first:
        digit_logits, sum_logits = digit_logits.softmax(dim=1), sum_logits.softmax(dim=1)
    digit_loss = functional.cross_entropy(digit_logits, digits, label_smoothing=params.label_smoothing)
    # The ten sums that the number allows, in the order of the digit: so the right one stands at the digit's place.
    allowed = functional.log_softmax(sum_logits, dim=1).gather(1, possible_sums(numbers))
    right = allowed.gather(1, digits.unsqueeze(1)).mean()
    return digit_loss, -(1 - params.label_smoothing) * right - params.label_smoothing * allowed.mean()


def batch_totals(
    digit_logits: Tensor, sum_logits: Tensor, digits: Tensor, numbers: Tensor, losses: tuple[Tensor, Tensor]
) -> Tensor:
    """Give sums over a batch, float [5]: the losses of digit and sum; how many digits, sums and both are right."""
    digit_right, sum_right = digit_logits.argmax(1) == digits, sum_logits.argmax(1) == digits + numbers
    counts = [right.sum() for right in (digit_right, sum_right, digit_right & sum_right)]
    return torch.stack([*(loss.detach() * len(digits) for loss in losses), *counts])


def _means(totals: Tensor, pairs: int, params: Train) -> Scores:
    digit_loss, sum_loss, *accuracies = (totals / pairs).tolist()
    loss = (1 - params.sum_loss_share) * digit_loss + params.sum_loss_share * sum_loss
    return Scores(loss, digit_loss, sum_loss, *accuracies)


def _batches(split: Split, params: Train, epoch: int) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
    """Give shuffled batches of pixels, digits, numbers and warps; in the last `clean_epochs` there are no warps."""
    draws = generator("epoch", params.seed, epoch)
    torch.manual_seed(derived_seed("layers", params.seed, epoch))  # for layers that draw, such as dropout
    device = split.images.device
    is_clean = epoch > math.ceil(params.epochs) - params.clean_epochs
    order = torch.randperm(len(split), generator=draws, dtype=torch.int32).to(device)
    for block in order.split(WARPED_AT_ONCE * params.batch_size):
        warps = draw_warps(len(block), draws).to(device)
        maps = affine_maps(warps, params.rotation, params.scaling, params.shear, params.translation)
        for batch, batch_maps in zip(block.split(params.batch_size), maps.split(params.batch_size), strict=True):
            images, digits, numbers = split[batch]
            if params.redraw_numbers:
                numbers = torch.randint(0, 10, (len(batch),), generator=draws).to(device)
            yield images.float(), digits, numbers, None if is_clean else batch_maps


@torch.no_grad()
def _validate(network: Network, split: Split, params: Train) -> Scores:
    """Score `network` on `split`, and leave it in eval mode."""
    network.eval()
    totals = []
    for start in range(0, len(split), VALIDATION_BATCH):
        images, digits, numbers = split[start : start + VALIDATION_BATCH]
        answers = network.answer(images.float(), numbers)
        losses = pair_losses(*answers, digits, numbers, params)
        totals.append(batch_totals(*answers, digits, numbers, losses))
    return _means(torch.stack(totals).cpu().double().sum(dim=0), len(split), params)
