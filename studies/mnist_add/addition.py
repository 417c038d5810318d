"""The sum of two numbers whose digits are images: its exact probability, from the probabilities of the digits.

The fusion `shift` is the case in which one digit of each pair is known.
"""

import torch
from torch import Tensor
from torch.nn import functional

NEVER = -1e30  # the logarithm of a probability of 0; finite, because logsumexp of -inf alone has NaN as its gradient


def log_probability(log_digits: Tensor, sums: Tensor) -> Tensor:
    """Return log P(sum | images), float [B], in nats: a recursion over the places with the carry as state, linear in N.

    Args:
        log_digits: log-probabilities of the digits of both numbers, float [B, 2, N, 10], highest place first.
        sums: sums that two numbers of N digits can have, int64 [B].
    """
    batch, _, places, _ = log_digits.shape
    both = functional.pad(log_sum_of_two(log_digits[:, 0], log_digits[:, 1]), (1, 1), value=NEVER)  # sums -1 to 19
    carry = torch.arange(2, device=sums.device)
    # Where c is carried in and d out, the two digits of a place add up to: digit of the sum + 10 d - c.
    of_two = decimals(sums, places)[:, :, None, None] + 10 * carry[None, :] - carry[:, None]
    steps = both.gather(2, 1 + of_two.flatten(2)).view(batch, places, 2, 2)
    carried = both.new_tensor([0.0, NEVER]).expand(batch, 2)  # into the last place: nothing
    for place in reversed(range(places)):
        carried = (carried.unsqueeze(2) + steps[:, place]).logsumexp(dim=1)
    return carried.gather(1, sums.unsqueeze(1) // 10**places).squeeze(1)


def log_sum_of_two(first: Tensor, second: Tensor) -> Tensor:
    """Return the log-probabilities of the sums 0-18 of two digits, float [..., 19], from those of each [..., 10]."""
    table = first.unsqueeze(-1) + second.unsqueeze(-2)
    # Ten columns more, read in rows of 19, move row i by i places: what adds up to the same sum is one column.
    padded = functional.pad(table, (0, 10), value=NEVER).flatten(-2)[..., : 10 * 19]
    return padded.unflatten(-1, (10, 19)).logsumexp(dim=-2)


def decimals(numbers: Tensor, places: int) -> Tensor:
    """Return the last `places` decimal digits of int64 `numbers` [B], highest first: int64 [B, places]."""
    powers = 10 ** torch.arange(places - 1, -1, -1, device=numbers.device)
    return numbers.unsqueeze(1) // powers % 10


def add(digits: Tensor) -> Tensor:
    """Return the sums of two numbers, int64 [B], from their digits 0-9, int64 [B, 2, N], highest place first."""
    powers = 10 ** torch.arange(digits.shape[2] - 1, -1, -1, device=digits.device)
    return (digits * powers).sum(dim=(1, 2))
