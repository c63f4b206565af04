"""Random tensors: integers that are those of the definition on every device, distributions, and a step that is mixed in on the device."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest

from ibllm_core.interfaces import noise
from ibllm_core.interfaces.noise import Rng
from ibllm_core.interfaces.randomness import derive_key

ROOT = Path(__file__).parents[2]
MASK = 2**64 - 1


def mixed(z: int) -> int:
    """SplitMix64's output function in Python's integers (Steele, Lea and Flood 2014, figure 15)."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def expected(key: tuple[int | str, ...], sample: int, step: int | None, count: int) -> list[int]:
    golden = 0x9E3779B97F4A7C15
    stream = mixed((sample * golden + 0xBF58476D1CE4E5B9) & MASK)
    stream = stream if step is None else mixed((stream + step * golden) & MASK)
    base = mixed((stream + derive_key(*key)) & MASK)
    return [mixed((base + (place + 1) * golden) & MASK) for place in range(count)]


@pytest.mark.parametrize("step", [None, 0, 1, 10**7])
def test_bits_are_those_of_the_definition(device: torch.device, step: int | None) -> None:
    samples = [0, 5, 2**40]
    found = Rng((3, "words"), samples, device, step)._bits(4).cpu().numpy().astype(np.uint64)
    assert found.tolist() == [expected((3, "words"), sample, step, 4) for sample in samples]


def test_a_step_on_the_device_is_that_of_the_host(device: torch.device) -> None:
    numbers = torch.tensor([4, 9], device=device)
    for step in (0, 1, 600):
        on_host = Rng((1,), [4, 9], device, step)
        held = Rng((1,), numbers, device, torch.tensor(step, device=device))
        assert torch.equal(on_host._bits(8), held._bits(8))
    assert not torch.equal(Rng((1,), [4], device, 1)._bits(8), Rng((1,), [4], device, 2)._bits(8))


def test_numbers_of_a_device_are_the_cpus(device: torch.device) -> None:
    there, here = Rng((7,), np.arange(64), device, 3), Rng((7,), np.arange(64), "cpu", 3)
    assert torch.equal(there.integers(1000, 32).cpu(), here.integers(1000, 32))
    assert torch.equal(there.uniform(32).cpu(), here.uniform(32))
    assert torch.equal(there.kept(0.3, 33).cpu(), here.kept(0.3, 33))
    a, b = there.normal(32).cpu(), here.normal(32)
    one_ulp = torch.nextafter(b.abs(), torch.tensor(torch.inf)) - b.abs()
    assert bool(((a - b).abs() <= one_ulp).all())


@pytest.mark.parametrize("single", [False, True])
def test_distributions_are_those_they_are_called(device: torch.device, monkeypatch: pytest.MonkeyPatch, single: bool) -> None:
    monkeypatch.setattr(noise, "SINGLE", {device.type} if single else set())
    rng = Rng(("distributions",), np.arange(50), device, 2)
    normal, uniform = rng.normal(2000).cpu().numpy().ravel(), rng.uniform(2000).cpu().numpy().ravel()
    assert kstest(normal, "norm").pvalue > 1e-3 and kstest(uniform, "uniform").pvalue > 1e-3
    assert np.isfinite(normal).all() and uniform.min() >= 0 and uniform.max() < 1
    assert chisquare(np.bincount(rng.integers(10, 2000).cpu().numpy().ravel(), minlength=10)).pvalue > 1e-3
    # Over steps at one place, as over places in one step.
    over = np.array([Rng(("steps",), [0], device, step).uniform(1).item() for step in range(400)])
    assert kstest(over, "uniform").pvalue > 1e-3 and abs(np.corrcoef(over[1:], over[:-1])[0, 1]) < 0.15


DRAWS = {"rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "multinomial", "bernoulli", "normal", "poisson"}
IN_PLACE = {"normal_", "uniform_", "random_", "bernoulli_", "exponential_", "log_normal_", "geometric_", "cauchy_"}
DROPOUTS = {"Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout", "dropout", "alpha_dropout"}
#: Functions that make first weights.
FIRST = {"position_embedding", "scaled_init"}
#: Where torch's own generators are used: the one module of random tensors, but for the kit, which makes inputs for tests.
ALLOWED = {"ibllm_core/interfaces/noise.py"}


def drawn(path: Path) -> list[str]:
    """Where a module draws from torch's global generators, but for first weights (in ``__init__``), which `build` seeds."""
    tree, found = ast.parse(path.read_text(encoding="utf-8")), []
    first = {n for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) and f.name in ("__init__", *FIRST) for n in ast.walk(f)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        of = node.value.id if isinstance(node.value, ast.Name) else node.value.attr if isinstance(node.value, ast.Attribute) else ""
        seeds = node.attr in ("manual_seed", "manual_seed_all", "seed_all")
        drops = of in ("nn", "F", "functional") and node.attr in DROPOUTS
        draws = (of == "torch" and node.attr in DRAWS) or node.attr in IN_PLACE
        if seeds or drops or (draws and node not in first):
            found.append(f"{node.lineno}: {of}.{node.attr}")
    return found


def test_random_numbers_come_from_one_module() -> None:
    modules = [path for folder in ("ibllm_core", "plugins") for path in (ROOT / folder).rglob("*.py") if "ibllm_testing" not in path.parts]
    found = {str(path.relative_to(ROOT)): where for path in modules if (where := drawn(path))}
    assert {name: where for name, where in found.items() if name not in ALLOWED} == {}
    assert found.keys() >= ALLOWED, "the search finds what is there"
