"""Fusions: how evidence about the digit and the number become evidence about the sum.

Each is made as `FUSIONS[name](embedding_features)` and called as `fusion(digit_logits, embedding, numbers)`, with
digit_logits float [N, 10], embedding float [N, E] and numbers int64 [N] in 0-9; it gives sum_logits float [N, 19].
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

NUMBERS = 10  # 0-9
SUMS = 19  # 0-18
HIDDEN = 128


class Shift(nn.Module):
    """P(sum = s | image, n) = P(digit = s - n | image): the exact distribution of the sum, with no weights.

    With the number known this is the whole of marginalisation over digits, as DeepProbLog (arXiv 1805.10872) and
    Scallop (arXiv 2304.04812) do it. Sums that the number rules out have the logit -inf.
    """

    def __init__(self, embedding_features: int) -> None:
        """Take the embedding's width as all fusions do; the embedding is not used."""
        super().__init__()

    def forward(self, digit_logits: Tensor, embedding: Tensor, numbers: Tensor) -> Tensor:
        """Place the ten log-probabilities of the digit at sums n to n + 9."""
        log_probabilities = functional.log_softmax(digit_logits, dim=1)
        impossible = log_probabilities.new_full((len(numbers), SUMS), -torch.inf)
        return impossible.scatter(1, possible_sums(numbers), log_probabilities)


class Concat(nn.Module):
    """Concatenate embedding and one-hot number, then two fully connected layers: the usual first idea."""

    def __init__(self, embedding_features: int) -> None:
        """Make layers E + 10 -> 128 -> 19."""
        super().__init__()
        self.hidden = nn.Linear(embedding_features + NUMBERS, HIDDEN)
        self.classify = nn.Linear(HIDDEN, SUMS)

    def forward(self, digit_logits: Tensor, embedding: Tensor, numbers: Tensor) -> Tensor:
        """sum_logits = W2 relu(W1 [embedding; onehot(n)])."""
        one_hot = functional.one_hot(numbers, NUMBERS).to(embedding.dtype)
        return self.classify(functional.relu(self.hidden(torch.cat([embedding, one_hot], dim=1))))


class Add(nn.Module):
    """Add a learned vector of the number to the digit logits, then two fully connected layers.

    Additive conditioning (Dumoulin et al., Distill 2018, "Feature-wise transformations") at the point where the
    original `add` system did it. The vectors begin as the one-hot codes which that system added.
    """

    def __init__(self, embedding_features: int) -> None:
        """Make a table 10 x 10 and layers 10 -> 128 -> 19."""
        super().__init__()
        self.number_vectors = nn.Embedding.from_pretrained(torch.eye(NUMBERS), freeze=False)
        self.hidden = nn.Linear(NUMBERS, HIDDEN)
        self.classify = nn.Linear(HIDDEN, SUMS)

    def forward(self, digit_logits: Tensor, embedding: Tensor, numbers: Tensor) -> Tensor:
        """sum_logits = W2 relu(W1 (digit_logits + vector(n)))."""
        return self.classify(functional.relu(self.hidden(digit_logits + self.number_vectors(numbers))))


FUSIONS = {"shift": Shift, "concat": Concat, "add": Add}


def possible_sums(numbers: Tensor) -> Tensor:
    """Give the ten sums that each number allows, in the order of the digit: int64 [N, 10]."""
    return numbers.unsqueeze(1) + torch.arange(10, device=numbers.device)
