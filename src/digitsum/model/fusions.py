"""Fusions: how the digit's logits, the image's embedding and the number become digit logits and sum logits.

Each is made as `FUSIONS[name](embedding_features)` and called as `fusion(digit_logits, embedding, numbers)`:

Args:
    digit_logits: float [N, 10].
    embedding: float [N, E].
    numbers: int64 [N] in 0-9.

It returns digit logits [N, 10], for most fusions the very ones that it got, and sum logits float [N, 19].
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

NUMBERS = 10  # 0-9
SUMS = 19  # 0-18
HIDDEN = 128


class Shift(nn.Module):
    """P(sum = s | image, n) = P(digit = s - n | image): the exact distribution of the sum, without weights.

    With the number known this is marginalisation over digits, as in DeepProbLog (arXiv 1805.10872) and Scallop
    (arXiv 2304.04812). Sums that the number rules out have the logit -inf.
    """

    def forward(self, digit_logits: Tensor, embedding: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Place the ten log-probabilities of the digit at sums n to n + 9."""
        log_probabilities = functional.log_softmax(digit_logits, dim=1)
        impossible = log_probabilities.new_full((numbers.shape[0], SUMS), -torch.inf)
        return digit_logits, impossible.scatter(1, possible_sums(numbers), log_probabilities)


class Concat(nn.Module):
    """Concatenate embedding and one-hot number, then two fully connected layers: the usual first idea."""

    def __init__(self, embedding_features: int) -> None:
        """Make layers E + 10 -> 128 -> 19."""
        super().__init__()
        self.hidden = nn.Linear(embedding_features + NUMBERS, HIDDEN)
        self.classify = nn.Linear(HIDDEN, SUMS)

    def forward(self, digit_logits: Tensor, embedding: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """sum_logits = W2 relu(W1 [embedding; onehot(n)])."""
        return digit_logits, self.classify(functional.relu(linear_of_concatenated(self.hidden, embedding, numbers)))


class Add(nn.Module):
    """Add a learned vector of the number to the digit logits, then two fully connected layers.

    Additive conditioning (Dumoulin et al., Distill 2018, "Feature-wise transformations") where the baseline `add` does
    it. The vectors begin as the one-hot codes which that baseline added.
    """

    def __init__(self, embedding_features: int) -> None:
        """Make a table 10 x 10 and layers 10 -> 128 -> 19."""
        super().__init__()
        self.number_vectors = nn.Embedding.from_pretrained(torch.eye(NUMBERS), freeze=False)
        self.hidden = nn.Linear(NUMBERS, HIDDEN)
        self.classify = nn.Linear(HIDDEN, SUMS)

    def forward(self, digit_logits: Tensor, embedding: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """sum_logits = W2 relu(W1 (digit_logits + vector(n)))."""
        return digit_logits, self.classify(functional.relu(self.hidden(digit_logits + self.number_vectors(numbers))))


class Product(nn.Module):
    """Multiply features of both inputs, element by element: low-rank bilinear pooling (MLB).

    Kim et al., "Hadamard Product for Low-rank Bilinear Pooling", arXiv 1610.04325.
    """

    def __init__(self, embedding_features: int) -> None:
        """Make layers E -> 128, 10 -> 128 and 128 -> 19."""
        super().__init__()
        self.image = nn.Linear(embedding_features, HIDDEN)
        self.number = nn.Linear(NUMBERS, HIDDEN)
        self.classify = nn.Linear(HIDDEN, SUMS)

    def forward(self, digit_logits: Tensor, embedding: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """sum_logits = W (tanh(U embedding) * tanh(V onehot(n)))."""
        image = torch.tanh(self.image(embedding))
        return digit_logits, self.classify(image * torch.tanh(self.number(one_hot(numbers))))


class Film(nn.Module):
    """Scale and shift each hidden feature by the number: feature-wise linear modulation.

    Perez et al., "FiLM: Visual Reasoning with a General Conditioning Layer", arXiv 1709.07871.
    """

    def __init__(self, embedding_features: int) -> None:
        """Make layers E -> 128 -> 19, and 10 -> 2 * 128 for scales around 1 and shifts around 0."""
        super().__init__()
        self.hidden = nn.Linear(embedding_features, HIDDEN)
        self.modulation = nn.Linear(NUMBERS, 2 * HIDDEN)
        self.classify = nn.Linear(HIDDEN, SUMS)

    def forward(self, digit_logits: Tensor, embedding: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """sum_logits = W2 relu((1 + scale) * W1 embedding + shift), [scale; shift] = V onehot(n)."""
        scale, shift = self.modulation(one_hot(numbers)).chunk(2, dim=1)
        return digit_logits, self.classify(functional.relu((1 + scale) * self.hidden(embedding) + shift))


class Gated(nn.Module):
    """Mix image and number, each feature by a gate that depends on both: a gated multimodal unit.

    Arevalo et al., "Gated Multimodal Units for Information Fusion", arXiv 1702.01992.
    """

    def __init__(self, embedding_features: int) -> None:
        """Make layers E -> 128, 10 -> 128, E + 10 -> 128 and 128 -> 19."""
        super().__init__()
        self.image = nn.Linear(embedding_features, HIDDEN)
        self.number = nn.Linear(NUMBERS, HIDDEN)
        self.gate = nn.Linear(embedding_features + NUMBERS, HIDDEN)
        self.classify = nn.Linear(HIDDEN, SUMS)

    def forward(self, digit_logits: Tensor, embedding: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """sum_logits = W (z * tanh(U embedding) + (1 - z) * tanh(V onehot(n))), z = sigmoid(G [embedding; onehot])."""
        image = torch.tanh(self.image(embedding))
        gate = torch.sigmoid(linear_of_concatenated(self.gate, embedding, numbers))
        return digit_logits, self.classify(torch.lerp(torch.tanh(self.number(one_hot(numbers))), image, gate))


class Bilinear(nn.Module):
    """A weight for each digit, number and sum, and for each pair of them: tensor fusion.

    Zadeh et al., "Tensor Fusion Network for Multimodal Sentiment Analysis", arXiv 1707.07250, on the digit logits: the
    outer product of both inputs, each with a 1 appended. With the right weights it is `shift`.
    """

    def __init__(self, embedding_features: int) -> None:
        """Make a layer 11 * 11 -> 19."""
        super().__init__()
        self.classify = nn.Linear(11 * (NUMBERS + 1), SUMS)

    def forward(self, digit_logits: Tensor, embedding: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """sum_logits = W vec([digit_logits; 1] [onehot(n); 1]^T)."""
        digit, number = (functional.pad(part, (0, 1), value=1.0) for part in (digit_logits, one_hot(numbers)))
        return digit_logits, self.classify(torch.einsum("nd,nm->ndm", digit, number).flatten(1))


class Hypernetwork(nn.Module):
    """A small network makes, from the number, the weights of the layer that turns digit logits into sum logits.

    Ha et al., "HyperNetworks", arXiv 1609.09106. With the right weights it is `shift`.
    """

    def __init__(self, embedding_features: int) -> None:
        """Make layers 10 -> 32 -> 19 * 11: a row for each sum, ten weights and a bias."""
        super().__init__()
        self.hidden = nn.Linear(NUMBERS, 32)
        self.generate = nn.Linear(32, SUMS * 11)

    def forward(self, digit_logits: Tensor, embedding: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """sum_logits = A(n) [digit_logits; 1], A(n) = reshape(W2 relu(W1 onehot(n)))."""
        layer = self.generate(functional.relu(self.hidden(one_hot(numbers)))).view(-1, SUMS, 11)
        return digit_logits, torch.einsum("nsd,nd->ns", layer, functional.pad(digit_logits, (0, 1), value=1.0))


class Attention(nn.Module):
    """Image and number are two tokens that attend to each other, once: scaled dot-product attention with four heads.

    Vaswani et al., "Attention Is All You Need", arXiv 1706.03762.
    """

    def __init__(self, embedding_features: int) -> None:
        """Make layers E -> 64 and 10 -> 64, attention over tokens of 64, and a layer 128 -> 19."""
        super().__init__()
        self.image = nn.Linear(embedding_features, HIDDEN // 2)
        self.number = nn.Linear(NUMBERS, HIDDEN // 2)
        self.attend = nn.MultiheadAttention(HIDDEN // 2, num_heads=4, batch_first=True)
        self.classify = nn.Linear(HIDDEN, SUMS)

    def forward(self, digit_logits: Tensor, embedding: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """sum_logits = W relu(T + attention(T, T, T)), T = [U embedding; V onehot(n)], two tokens of 64."""
        tokens = torch.stack([self.image(embedding), self.number(one_hot(numbers))], dim=1)
        attended, _ = self.attend(tokens, tokens, tokens, need_weights=False)
        return digit_logits, self.classify(functional.relu(tokens + attended).flatten(1))


class BaselineConcat(nn.Module):
    """The baseline `concat`: a layer for the number, and both answers from the concatenation.

    Its write-up does not name the layers after that. One of 64 comes closest to its log, of three layouts tried.
    The digit logits that the fusion gets are not used.
    """

    def __init__(self, embedding_features: int) -> None:
        """Make layers 10 -> 20, E + 20 -> 64, and from there to 10 and to 19."""
        super().__init__()
        self.number = nn.Linear(NUMBERS, 20)
        self.hidden = nn.Linear(embedding_features + 20, 64)
        self.digit, self.sum = nn.Linear(64, 10), nn.Linear(64, SUMS)

    def forward(self, digit_logits: Tensor, embedding: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """h = relu(W [embedding; V onehot(n)]); digit_logits = D h, sum_logits = S h."""
        fused = functional.relu(self.hidden(torch.cat([embedding, self.number(one_hot(numbers))], dim=1)))
        return self.digit(fused), self.sum(fused)


class BaselineAdd(nn.Module):
    """The baseline `add`: the one-hot number added to the digit logits, then a narrow layer."""

    def __init__(self, embedding_features: int, width: int = 20) -> None:
        """Make layers 10 -> `width` -> 19."""
        super().__init__()
        self.hidden, self.classify = nn.Linear(NUMBERS, width), nn.Linear(width, SUMS)

    def forward(self, digit_logits: Tensor, embedding: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """sum_logits = W2 relu(W1 (digit_logits + onehot(n)))."""
        return digit_logits, self.classify(functional.relu(self.hidden(digit_logits + one_hot(numbers))))


FUSIONS: dict[str, Callable[[int], nn.Module]] = {
    "shift": lambda embedding_features: Shift(),
    "concat": Concat,
    "add": Add,
    "product": Product,
    "film": Film,
    "gated": Gated,
    "bilinear": Bilinear,
    "hypernetwork": Hypernetwork,
    "attention": Attention,
    "baseline_concat": BaselineConcat,
    "baseline_add": BaselineAdd,
    "baseline_add_wide": functools.partial(BaselineAdd, width=HIDDEN),
}


def possible_sums(numbers: Tensor) -> Tensor:
    """Return the ten sums that each number allows, in the order of the digit: int64 [N, 10]."""
    return numbers.unsqueeze(1) + torch.arange(10, device=numbers.device)


def one_hot(numbers: Tensor) -> Tensor:
    """Return the one-hot codes of int64 numbers [N]: float32 [N, 10]."""
    return functional.one_hot(numbers, NUMBERS).float()


def linear_of_concatenated(layer: nn.Linear, embedding: Tensor, numbers: Tensor) -> Tensor:
    """Return `layer([embedding; onehot(n)])`, float [N, out]: two products, whose sum is the product of both.

    The results of studies/fusions were rounded in this order.
    """
    of_embedding, of_number = layer.weight.split([embedding.shape[1], NUMBERS], dim=1)
    return functional.linear(embedding, of_embedding, layer.bias) + functional.linear(one_hot(numbers), of_number)
