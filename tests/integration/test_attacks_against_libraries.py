"""Attacks of ours beside those of foolbox and of the Adversarial Robustness Toolbox, through one objective, on a captioner that has learned a little.

``pip install foolbox adversarial-robustness-toolbox``. Each test prints what both find and what it costs (``-s`` shows it).
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from ibllm_robust import attacks, config
from torch import Tensor

from ibllm.plugin import Context, Cycle, Model, Rng, Tokens
from tests.robust.conftest import learned  # noqa: F401

from .needs import needs

EPSILON = 8 / 255
#: A library's attack may differ in what it draws and in the last digits.
ALIKE = 0.02

Found = Callable[[], Tensor]


@pytest.fixture
def target(learned: tuple[Model, Cycle]) -> tuple[Callable[[Tensor], Tensor], Tensor]:  # noqa: F811
    """Images (b c h w) in [0, 1] are to be read as one caption: log p of it; and the images. It does not depend on an item's row, which libraries lose."""
    model, cycle = learned
    caption = Tokens(cycle.x_out.ids[:1], cycle.x_out.mask[:1])

    def objective(x: Tensor) -> Tensor:
        b = len(x)
        z = model.part("image_encoder")(2 * x - 1)
        return -model.part("text_decoder").nll(Tokens(caption.ids.expand(b, -1), caption.mask.expand(b, -1)), z)

    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return objective, ((cycle.y + 1) / 2)[1:13]


def ours(name: str, objective: Callable[[Tensor], Tensor], x: Tensor, **options: Any) -> Found:
    made = getattr(attacks, name)(getattr(config, f"{name}Config")(epsilon=EPSILON, **options), Context())
    return lambda: made.perturb(objective, x, Rng((0, "compared"), np.arange(len(x))))


def compared(what: str, objective: Callable[[Tensor], Tensor], x: Tensor, own: Found, other: Found, epsilon: float = EPSILON) -> float:
    """What ours gains ÷ what the library's does, both within the ball."""
    gained, seconds = [], []
    for search in (own, other):
        began = time.process_time()
        found = search()
        seconds.append(time.process_time() - began)
        with torch.no_grad():
            gained.append(float((objective(found) - objective(x)).mean()))
        assert float((found - x).abs().max()) <= epsilon + 1e-6 or epsilon > 1
        assert 0 <= float(found.min()) <= float(found.max()) <= 1
    ratio = gained[0] / gained[1]
    print(f"\n{what}: ours {gained[0]:.3f} nats, theirs {gained[1]:.3f}: ratio {ratio:.4f}; cost {seconds[0] / seconds[1]:.2f} of theirs")
    return ratio


@pytest.mark.parametrize(("name", "norm", "epsilon"), [("FGSM", "linf", EPSILON), ("PGD", "linf", EPSILON), ("PGD", "l2", 1.5)])
def test_foolbox_finds_the_same(name: str, norm: str, epsilon: float, target: tuple[Callable[[Tensor], Tensor], Tensor]) -> None:
    """The same steps from the same place, within rounding along which signs turn; ours keeps the worst, which is never less."""
    needs("foolbox", importlib.util.find_spec("foolbox") is not None)
    import eagerpy
    from foolbox import PyTorchModel
    from foolbox.attacks import LinfFastGradientAttack, LinfProjectedGradientDescentAttack
    from foolbox.attacks.projected_gradient_descent import L2ProjectedGradientDescentAttack

    objective, x = target
    steps = 1 if name == "FGSM" else 20
    library = {"FGSM": LinfFastGradientAttack, "linf": LinfProjectedGradientDescentAttack, "l2": L2ProjectedGradientDescentAttack}
    base: Any = library["FGSM" if name == "FGSM" else norm]

    class Theirs(base):
        def get_loss_fn(self, model: Any, labels: Any) -> Any:
            return lambda inputs: eagerpy.astensor(objective(inputs.raw).sum())

    sizes = {} if name == "FGSM" else {"steps": steps, "rel_stepsize": 2.5 / steps}
    model = PyTorchModel(torch.nn.Identity().eval(), bounds=(0, 1))
    theirs = Theirs(random_start=False, **sizes)
    options = {"norm": norm} | ({} if name == "FGSM" else {"steps": steps, "random_start": False})
    made = getattr(attacks, name)(getattr(config, f"{name}Config")(epsilon=epsilon, **options), Context())
    ratio = compared(
        f"{name}, {norm}, against foolbox",
        objective,
        x,
        lambda: made.perturb(objective, x, Rng((0, "compared"), np.arange(len(x)))),
        lambda: theirs.run(model, x, torch.zeros(len(x), dtype=torch.int64), epsilon=epsilon),
        epsilon,
    )
    assert ratio == pytest.approx(1, abs=1e-3) if name == "FGSM" else 1 - ALIKE < ratio < 1.1


class TwoWords(torch.nn.Module):
    """An objective as logits of two classes: the first one's cross-entropy grows with it, and it is the likelier until the objective is at `limit`."""

    def __init__(self, objective: Callable[[Tensor], Tensor], limit: float) -> None:
        super().__init__()
        self.objective, self.limit, self.unused = objective, limit, torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        left = (self.limit - self.objective(x)) / 4
        return torch.stack([left, torch.zeros_like(left)], 1) + 0 * self.unused


@pytest.mark.parametrize("name", ["APGD", "Square"])
def test_the_robustness_toolbox_finds_no_more(name: str, target: tuple[Callable[[Tensor], Tensor], Tensor]) -> None:
    """Both begin anywhere, so that what they find differs; of as many passes ours finds at least nine tenths.

    Their APGD gives what it found only of items whose class it changed, so each goes alone, with a limit of its own that is passed early; their square
    attack leaves off such items, so it has a limit that is never passed.
    """
    needs("adversarial-robustness-toolbox", importlib.util.find_spec("art") is not None)
    from art.attacks.evasion import AutoProjectedGradientDescent, SquareAttack
    from art.estimators.classification import PyTorchClassifier

    objective, x = target
    pieces = x[:4].split(1) if name == "APGD" else (x,)
    x = torch.cat(pieces)

    def theirs() -> Tensor:
        torch.manual_seed(0)
        np.random.seed(0)
        found = []
        for piece in pieces:
            limit = float(objective(piece)) + 0.5 if name == "APGD" else 1e-3
            module = TwoWords(objective, limit)
            classifier = PyTorchClassifier(
                module, torch.nn.CrossEntropyLoss(), input_shape=tuple(x.shape[1:]), nb_classes=2, clip_values=(0, 1), device_type="cpu"
            )
            common: dict[str, Any] = {"norm": np.inf, "eps": EPSILON, "batch_size": 64, "verbose": False}
            made: Any = (
                AutoProjectedGradientDescent(classifier, eps_step=2 * EPSILON, max_iter=20, nb_random_init=1, loss_type=None, **common)
                if name == "APGD"
                else SquareAttack(classifier, max_iter=100, nb_restarts=1, p_init=0.8, **common)
            )
            found.append(torch.from_numpy(made.generate(piece.numpy(), np.array([[1.0, 0.0]] * len(piece), dtype=np.float32))))
        return torch.cat(found)

    def own() -> Tensor:
        return torch.cat([ours(name, objective, piece, **({"steps": 20} if name == "APGD" else {"queries": 100}))() for piece in pieces])

    assert compared(f"{name} against the Adversarial Robustness Toolbox", objective, x, own, theirs) > 0.9
