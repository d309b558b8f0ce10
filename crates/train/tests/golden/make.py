"""Loss curves of AdamW and of Muon+AdamW by PyTorch (CPU, f32), for src/training/golden_tests.rs.

python crates/train/tests/golden/make.py > crates/train/tests/golden/optimisers.json

Weights and data are integer formulas that the test computes as well. The model is written out here in plain torch (the
forward pass of Qwen3), AdamW is torch.optim.AdamW, Muon is written out from its paper.
"""

import json
import math

import torch

torch.manual_seed(0)
torch.set_num_threads(1)

VOCABULARY, WIDTH, INNER, HEADS, KV_HEADS, HEAD, LAYERS = 64, 32, 48, 2, 1, 16, 2
LENGTH, DOCUMENTS, SEQUENCES, STEPS = 24, (10, 14), 8, 50
MASK = (1 << 64) - 1


def noise(seed, index):
    mixed = (((seed << 32 | index) + 1) * 0x9E3779B97F4A7C15) & MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & MASK
    return ((mixed ^ (mixed >> 31)) >> 40) / (1 << 23) - 1.0


def sequence(index):
    """Tokens of which most follow from the one before; the last few have no target."""
    state = ((index * 0x9E3779B97F4A7C15) & MASK) ^ 0x5555

    def random():
        nonlocal state
        state ^= (state << 13) & MASK
        state ^= state >> 7
        state ^= (state << 17) & MASK
        return (state >> 20) & 0xFFFFFFFF

    tokens = [random() % VOCABULARY]
    while len(tokens) <= LENGTH:
        is_noise = random() % 4 == 0
        tokens.append((random() if is_noise else 5 * tokens[-1] + 3) % VOCABULARY)
    targets = tokens[1:]
    for place in range(LENGTH - index % 7, LENGTH):
        targets[place] = -100
    return tokens[:LENGTH], targets


def shapes():
    yield "embedding", (VOCABULARY, WIDTH)
    for layer in range(LAYERS):
        for name, shape in [
            ("attention_norm", (WIDTH,)),
            ("query", (HEADS * HEAD, WIDTH)),
            ("key", (KV_HEADS * HEAD, WIDTH)),
            ("value", (KV_HEADS * HEAD, WIDTH)),
            ("query_norm", (HEAD,)),
            ("key_norm", (HEAD,)),
            ("output", (WIDTH, HEADS * HEAD)),
            ("feed_forward_norm", (WIDTH,)),
            ("gate", (INNER, WIDTH)),
            ("up", (INNER, WIDTH)),
            ("down", (WIDTH, INNER)),
        ]:
            yield f"{layer}.{name}", shape
    yield "final_norm", (WIDTH,)


def initial():
    weights = {}
    for number, (name, shape) in enumerate(shapes()):
        count = math.prod(shape)
        values = [noise(number, index) for index in range(count)]
        scale, centre = (0.1, 0.0) if len(shape) == 2 else (0.1, 1.0)
        values = torch.tensor(values, dtype=torch.float64) * scale + centre
        weights[name] = values.to(torch.float32).reshape(shape).requires_grad_()
    return weights


def norm(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * weight


def rotate(x, positions):
    frequencies = 10000.0 ** (-torch.arange(0, HEAD, 2, dtype=torch.float64) / HEAD)
    angles = positions[:, None].double() * frequencies
    cosine, sine = angles.cos().float(), angles.sin().float()
    first, second = x[..., : HEAD // 2], x[..., HEAD // 2 :]
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)


def logits(weights, tokens):
    positions = torch.cat([torch.arange(length) for length in DOCUMENTS])
    document = torch.cat([torch.full((length,), i) for i, length in enumerate(DOCUMENTS)])
    visible = (document[:, None] == document[None, :]) & (positions[:, None] >= positions[None, :])
    hidden = weights["embedding"][tokens]
    batch = tokens.shape[0]
    for layer in range(LAYERS):
        w = lambda name: weights[f"{layer}.{name}"]
        x = norm(hidden, w("attention_norm"))
        split = lambda y, heads: y.view(batch, LENGTH, heads, HEAD).transpose(1, 2)
        query = norm(split(x @ w("query").T, HEADS), w("query_norm"))
        key = norm(split(x @ w("key").T, KV_HEADS), w("key_norm"))
        value = split(x @ w("value").T, KV_HEADS)
        query, key = rotate(query, positions), rotate(key, positions)
        key, value = (y.repeat_interleave(HEADS // KV_HEADS, 1) for y in (key, value))
        scores = (query @ key.transpose(-1, -2)) / math.sqrt(HEAD)
        attention = scores.masked_fill(~visible, float("-inf")).softmax(-1) @ value
        hidden = hidden + attention.transpose(1, 2).reshape(batch, LENGTH, -1) @ w("output").T
        x = norm(hidden, w("feed_forward_norm"))
        inner = torch.nn.functional.silu(x @ w("gate").T) * (x @ w("up").T)
        hidden = hidden + inner @ w("down").T
    return norm(hidden, weights["final_norm"]) @ weights["embedding"].T


POLAR_EXPRESS = [
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
]


class Muon(torch.optim.Optimizer):
    def __init__(self, parameters, lr, momentum, weight_decay):
        super().__init__(parameters, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                buffer = state.setdefault("momentum", torch.zeros_like(parameter))
                buffer.lerp_(parameter.grad, 1 - group["momentum"])
                x = parameter.grad.lerp(buffer, group["momentum"])
                if is_tall := x.shape[0] > x.shape[1]:
                    x = x.T
                x = x / (x.norm() * 1.02 + 1e-7)
                for a, b, c in POLAR_EXPRESS:
                    gram = x @ x.T
                    x = a * x + (b * gram + c * gram @ gram) @ x
                if is_tall:
                    x = x.T
                rows, columns = parameter.shape
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(x, alpha=-group["lr"] * max(1, rows / columns) ** 0.5)


def curve(kind):
    weights = initial()
    matrices = [w for name, w in weights.items() if w.ndim == 2 and name != "embedding"]
    vectors = [w for w in weights.values() if w.ndim == 1]
    groups = [
        dict(params=[weights["embedding"]], lr=6e-3, weight_decay=0.0),
        dict(params=vectors, lr=3e-3, weight_decay=0.0),
    ]
    optimisers = []
    if kind == "adamw":
        groups.append(dict(params=matrices, lr=3e-3, weight_decay=0.1))
    else:
        optimisers.append(Muon(matrices, lr=0.02, momentum=0.95, weight_decay=0.1))
    optimisers.append(torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8))
    losses = []
    for step in range(STEPS):
        batch = [sequence(step * SEQUENCES + index) for index in range(SEQUENCES)]
        tokens = torch.tensor([tokens for tokens, _ in batch])
        targets = torch.tensor([targets for _, targets in batch])
        scores = logits(weights, tokens).reshape(-1, VOCABULARY)
        loss = torch.nn.functional.cross_entropy(scores, targets.reshape(-1), ignore_index=-100)
        for optimiser in optimisers:
            optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        losses.append(round(loss.item(), 6))
    return losses


print(json.dumps({"torch": torch.__version__, "adamw": curve("adamw"), "muon": curve("muon")}, indent=1))
