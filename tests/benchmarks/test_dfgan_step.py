"""A DF-GAN step by our parts, losses and training code against plain PyTorch: the same losses, and at most 3 % more CPU time.

The plain side is written here from the formulas of Tao et al. 2022 (and the sizes of their code): own networks, own losses, own step; it
shares nothing with ours but the frozen text encoder, the noise and the first weights. It evaluates each term of the formulas as it stands:
critic(real, text), critic(generated, text), critic(real, another's text), and the penalty at a leaf of its own. The authors' code looks at the
real images once for three of these; a plain side that does so too is timed beside, without a bar.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibllm_core.interfaces.batch import Batch
from ibllm_core.interfaces.noise import Rng
from ibllm_core.recipe import load as load_recipe
from ibllm_core.runs.directory import RunDirectory
from ibllm_core.training.feeding import Draws, Feeder
from ibllm_core.training.session import Session

from .rounds import both

RECIPE = """
format = 1
name = "dfgan"
order = ["text", "gan"]
data = {{ use = "shapes", size = {size} }}
tokenizers.text = {{ use = "word", size = 48, max_length = 32 }}
optimizer = {{ use = "adam", lr = 1e-4, betas = [0.0, 0.9] }}
players.critic = {{ optimizer = {{ use = "adam", lr = 4e-4, betas = [0.0, 0.9] }} }}
training = {{ batch = {batch}, clip = 0.0, ema = 0.0 }}
compute = {{ device = "cpu", precision = "fp32", threads = 1 }}

[model]
width = {text}
text_encoder = {{ use = "lstm", layers = 1 }}
image_decoder = {{ use = "dfgan", channels = {channels}, hidden = {hidden}, noise = {noise}, noise_scale = 1.0 }}
discriminator = {{ use = "dfgan", channels = {channels} }}

[losses]
image_nll = {{ use = "image_nll" }}
adversarial = {{ use = "hinge", mismatched = 0.5 }}
penalty = {{ use = "matching_aware_penalty", scale = 2.0, exponent = 6.0, by = ["pooled"] }}

# Only there because a loss may not go through a text encoder that nothing has trained; never run here.
[stages.text]
steps = 1
train = ["text_encoder", "image_decoder"]
losses = {{ image_nll = 1.0 }}

[stages.gan]
steps = 100
train = ["image_decoder", "discriminator"]
losses = {{ adversarial = 1.0, penalty = 1.0 }}
"""
SMALL = {"size": 32, "batch": 4, "text": 24, "channels": 8, "hidden": 16, "noise": 10}
#: The published sizes but for n_f = 32 channels and 64 pixels.
FULL = {"size": 64, "batch": 16, "text": 256, "channels": 32, "hidden": 256, "noise": 100}
STEPS, ROUNDS = 2, 7


def mlp(before: int, hidden: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(before, hidden), nn.ReLU(), nn.Linear(hidden, after))


class Affine(nn.Module):
    def __init__(self, condition: int, hidden: int, channels: int) -> None:
        super().__init__()
        self.gamma, self.beta = mlp(condition, hidden, channels), mlp(condition, hidden, channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return self.gamma(condition)[..., None, None] * x + self.beta(condition)[..., None, None]


class UpBlock(nn.Module):
    def __init__(self, condition: int, hidden: int, before: int, after: int) -> None:
        super().__init__()
        self.affine1, self.affine2 = Affine(condition, hidden, before), Affine(condition, hidden, before)
        self.affine3, self.affine4 = Affine(condition, hidden, after), Affine(condition, hidden, after)
        self.c1, self.c2 = nn.Conv2d(before, after, 3, 1, 1), nn.Conv2d(after, after, 3, 1, 1)
        self.shortcut = nn.Conv2d(before, after, 1) if before != after else None

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2)
        h = F.leaky_relu(self.affine1(x, condition), 0.2)
        h = F.leaky_relu(self.affine2(h, condition), 0.2)
        h = self.c1(h)
        h = F.leaky_relu(self.affine3(h, condition), 0.2)
        h = F.leaky_relu(self.affine4(h, condition), 0.2)
        h = self.c2(h)
        return h + (x if self.shortcut is None else self.shortcut(x))


class Generator(nn.Module):
    def __init__(self, size: int, text: int, channels: int, hidden: int, noise: int) -> None:
        super().__init__()
        levels = (size // 4).bit_length()
        widths = [channels * min(2**i, 8) for i in range(levels)][::-1]
        self.first = nn.Linear(noise, widths[0] * 16)
        self.blocks = nn.ModuleList(UpBlock(noise + text, hidden, a, b) for a, b in pairwise(widths))
        self.rgb = nn.Conv2d(widths[-1], 3, 3, 1, 1)

    def forward(self, noise: Tensor, text: Tensor) -> Tensor:
        condition = torch.cat([noise, text], 1)
        x = self.first(noise).view(len(noise), -1, 4, 4)
        for block in self.blocks:
            x = block(x, condition)
        return torch.tanh(self.rgb(F.leaky_relu(x, 0.2)))


class DownBlock(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(before, after, 4, 2, 1, bias=False), nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(before, after, 1) if before != after else None
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        residual = F.leaky_relu(self.c2(F.leaky_relu(self.c1(x), 0.2)), 0.2)
        return F.avg_pool2d(x if self.shortcut is None else self.shortcut(x), 2) + self.gamma * residual


class Critic(nn.Module):
    def __init__(self, size: int, text: int, channels: int) -> None:
        super().__init__()
        levels = (size // 4).bit_length()
        widths = [channels * min(2**i, 8) for i in range(levels)]
        self.first = nn.Conv2d(3, channels, 3, 1, 1)
        self.blocks = nn.ModuleList(DownBlock(a, b) for a, b in pairwise(widths))
        self.joint = nn.Conv2d(widths[-1] + text, 2 * channels, 3, 1, 1, bias=False)
        self.score = nn.Conv2d(2 * channels, 1, 4, 1, 0, bias=False)

    def look(self, image: Tensor) -> Tensor:
        x = self.first(image)
        for block in self.blocks:
            x = block(x)
        return x

    def judge(self, x: Tensor, text: Tensor) -> Tensor:
        joined = torch.cat([x, text[:, :, None, None].expand(-1, -1, 4, 4)], 1)
        return self.score(F.leaky_relu(self.joint(joined), 0.2)).view(-1)

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        return self.judge(self.look(image), text)


class Plain:
    """The published step, on copies of the session's weights."""

    def __init__(self, session: Session, size: int, text: int, channels: int, hidden: int, noise: int, batch: int) -> None:
        self.encoder = session.model.parts["text_encoder"]
        self.generator, self.critic = Generator(size, text, channels, hidden, noise), Critic(size, text, channels)
        copy_generator(session.model.parts["image_decoder"], self.generator)
        copy_critic(session.model.parts["discriminator"], self.critic)
        self.of_generator = torch.optim.Adam(self.generator.parameters(), lr=1e-4, betas=(0.0, 0.9), fused=True)
        self.of_critic = torch.optim.Adam(self.critic.parameters(), lr=4e-4, betas=(0.0, 0.9), fused=True)

    def step(self, batch: Batch, noise: Tensor, share: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """→ the critic's hinge loss, its penalty, the generator's loss. With `share` the critic looks at the real images once, as in the authors' code."""
        real = batch.y
        assert real is not None
        with torch.no_grad():
            text = self.encoder(batch.x).pooled
        fake = self.generator(noise, text)

        image_leaf, text_leaf = real.detach().requires_grad_(), text.detach().requires_grad_()
        if share:
            seen = self.critic.look(image_leaf)
            matched = at_leaf = self.critic.judge(seen, text_leaf)
            mismatched = self.critic.judge(seen, text.roll(1, 0))
        else:
            matched, mismatched = self.critic(real, text), self.critic(real, text.roll(1, 0))
            at_leaf = self.critic(image_leaf, text_leaf)
        generated = self.critic(fake.detach(), text)
        hinge = F.relu(1 - matched).mean() + 0.5 * F.relu(1 + generated).mean() + 0.5 * F.relu(1 + mismatched).mean()
        by_image, by_text = torch.autograd.grad(at_leaf.sum(), (image_leaf, text_leaf), create_graph=True)
        norm = torch.cat([by_image.flatten(1), by_text], 1).square().sum(1).sqrt()
        penalty = 2 * (norm**6).mean()
        self.of_critic.zero_grad()
        (hinge + penalty).backward()
        self.of_critic.step()

        self.critic.requires_grad_(False)
        loss = -self.critic(fake, text).mean()
        self.of_generator.zero_grad()
        loss.backward()
        self.of_generator.step()
        self.critic.requires_grad_(True)
        return hinge.detach(), penalty.detach(), loss.detach()


@torch.no_grad()
def copy_generator(ours: nn.Module, plain: Generator) -> None:
    mine = dict(ours.named_parameters())
    plain.first.weight.copy_(mine["enter.weight"])
    plain.first.bias.copy_(mine["start"])
    copy(plain.rgb, mine, "paint")
    for number, block in enumerate(plain.blocks):
        assert isinstance(block, UpBlock)
        for name, affine in (
            ("first.0", block.affine1),
            ("first.1", block.affine2),
            ("second.0", block.affine3),
            ("second.1", block.affine4),
        ):
            hidden, bias = mine[f"blocks.{number}.{name}.hidden.weight"], mine[f"blocks.{number}.{name}.hidden.bias"]
            for branch, w, b, last in zip((affine.gamma, affine.beta), hidden.chunk(2), bias.chunk(2), ("scale", "shift"), strict=True):
                branch[0].weight.copy_(w)
                branch[0].bias.copy_(b)
                copy(branch[2], mine, f"blocks.{number}.{name}.{last}")
        copy(block.c1, mine, f"blocks.{number}.convolve.0")
        copy(block.c2, mine, f"blocks.{number}.convolve.1")
        if block.shortcut is not None:
            copy(block.shortcut, mine, f"blocks.{number}.shortcut")


@torch.no_grad()
def copy_critic(ours: nn.Module, plain: Critic) -> None:
    mine = dict(ours.named_parameters())
    copy(plain.first, mine, "stages.0")
    for number, block in enumerate(plain.blocks, 1):
        assert isinstance(block, DownBlock)
        copy(block.c1, mine, f"stages.{number}.convolve.0")
        copy(block.c2, mine, f"stages.{number}.convolve.2")
        block.gamma.fill_(mine[f"stages.{number}.gain"].item())
        if block.shortcut is not None:
            copy(block.shortcut, mine, f"stages.{number}.shortcut")
    copy(plain.joint, mine, "join")
    copy(plain.score, mine, "last")


def copy(into: nn.Module, mine: dict[str, nn.Parameter], name: str) -> None:
    for own, parameter in into.named_parameters():
        parameter.copy_(mine[f"{name}.{own}"])


class Race:
    """Both sides on the same batches, from the same weights."""

    def __init__(self, folder: Path, sizes: dict[str, int]) -> None:
        path = folder / "dfgan.toml"
        path.write_text(RECIPE.format(**sizes))
        self.recipe = load_recipe(path)
        self.session = Session(self.recipe, RunDirectory(folder / "run"))
        session = self.session
        # Learned gains start at 0, with which half of the critic would not take part in the comparison.
        for name, parameter in session.model.parts["discriminator"].named_parameters():
            if name.endswith("gain"):
                nn.init.constant_(parameter, 0.3)
        stage = self.recipe.stages["gan"]
        self.trainer = session.trainer(stage)
        self.plain = Plain(session, **sizes)

    def batches(self, count: int) -> list[Batch]:
        feeder = Feeder(
            Draws(self.session.dataset, self.session.model.tokenizers, batch=self.recipe.stages["gan"].training.batch, key=(0, "b"))
        )
        try:
            return [micro[0].to(torch.device("cpu")) for micro in islice(iter(feeder), count)]
        finally:
            feeder.close()

    def noise(self, step: int, batch: Batch) -> Tensor:
        """What the training code draws in this step."""
        parts = self.session.model.parts
        return parts["image_decoder"].noise(
            parts["text_encoder"](batch.x), Rng((self.recipe.seed.data, "train", "gan", "draw"), batch.numbers, "cpu", step)
        )  # type: ignore[operator]

    def ours(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        self.trainer.iterate([batch])
        means = self.trainer.read()
        critic, penalty, model = (torch.tensor(means[f"loss/{name}"]) for name in ("critic/adversarial", "critic/penalty", "adversarial"))
        return critic, penalty, model


def test_losses_are_those_of_the_published_formulas(tmp_path: Path) -> None:
    race = Race(tmp_path, SMALL)
    for step, batch in enumerate(race.batches(4)):
        wanted = race.plain.step(batch, race.noise(step, batch), share=step > 1)
        torch.testing.assert_close(race.ours(batch), wanted, rtol=1e-5, atol=1e-5, msg=lambda m, step=step: f"step {step}: {m}")


@both
def test_a_step_costs_at_most_three_percent_more(measured: bool, tmp_path: Path) -> None:
    race = Race(tmp_path, FULL if measured else SMALL)
    (batch,) = race.batches(1)
    torch.testing.assert_close(race.ours(batch), race.plain.step(batch, race.noise(0, batch)), rtol=1e-5, atol=1e-5)
    noise = race.noise(0, batch)
    sides: dict[str, Callable[[], object]] = {
        "ours": lambda: race.ours(batch),
        "plain": lambda: race.plain.step(batch, noise),
        "sharing": lambda: race.plain.step(batch, noise, share=True),
    }
    spent: dict[str, list[float]] = {side: [] for side in sides}
    for round_ in range(ROUNDS if measured else 1):
        for side in sides if round_ % 2 else reversed(sides):
            started = time.process_time()
            for _ in range(STEPS if measured else 1):
                sides[side]()
            spent[side].append((time.process_time() - started) / STEPS)
    ratios = {side: [a / b for a, b in zip(spent["ours"], spent[side], strict=True)] for side in ("plain", "sharing")}
    print("CPU seconds a step: " + ", ".join(f"{side} {statistics.median(seconds):.3f}" for side, seconds in spent.items()))
    for side, found in ratios.items():
        print(f"ours / {side}: median {statistics.median(found):.3f} of {sorted(round(r, 3) for r in found)}")
    assert statistics.median(ratios["plain"]) <= 1.03 or not measured
