"""What is trained: models and batches, and the arithmetic that a step of them asks for."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Shape:
    name: str
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    sequences: int
    length: int
    # Bytes that we may take; layers are computed again where that is less than all activations need.
    memory_limit: int | None = None

    @property
    def tokens(self) -> int:
        return self.sequences * self.length

    def parameters_of_products(self) -> int:
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.ffn) + self.vocabulary * self.hidden

    def flops_of_a_token(self) -> float:
        """6 for each parameter of a product (forward and backward), and attention over what a token sees, half the sequence."""
        attention = 12 * self.layers * self.heads * self.head_dim * self.length / 2
        return 6 * self.parameters_of_products() + attention

    def as_dict(self) -> dict:
        return asdict(self)


SHAPES = [
    Shape("6 layers × 256", 6, 256, 704, 4, 4, 64, 8192, 32, 128),
    Shape("8 layers × 512", 8, 512, 1408, 8, 8, 64, 8192, 8, 256, memory_limit=950_000_000),
    Shape("SmolLM2-135M shape", 30, 576, 1536, 9, 3, 64, 49152, 2, 512, memory_limit=2_700_000_000),
]
