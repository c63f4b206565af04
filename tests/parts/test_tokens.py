"""The image tokenizers: vector quantisation and finite scalar quantisation."""

from __future__ import annotations

import itertools
import math
import subprocess
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from ibllm_shapes.config import ShapesConfig
from ibllm_shapes.dataset import ShapesDataset
from ibllm_tokens.config import FSQConfig, VQConfig
from ibllm_tokens.image_tokenizer import ConvTokenizer, FSQTokenizer, VQTokenizer
from ibllm_tokens.metric import image_tokens, reconstruct
from ibllm_tokens.quantisers import Codebook, FiniteScalarQuantiser
from torch import Tensor

from ibllm_core.interfaces.batch import to_images
from ibllm_core.interfaces.context import Context
from ibllm_core.model.model import Model
from tests import processes

SMALL = {"patch": 4, "channels": (16,), "blocks": 1}


def vq(shape: tuple[int, int, int] = (3, 32, 32), **options: object) -> VQTokenizer:
    torch.manual_seed(0)
    return VQTokenizer(VQConfig(**{**SMALL, "codes": 32, "code_width": 4, **options}), Context(image_shape=shape))


def fsq(shape: tuple[int, int, int] = (3, 32, 32), **options: object) -> FSQTokenizer:
    torch.manual_seed(0)
    return FSQTokenizer(FSQConfig(**{**SMALL, "levels": (4, 3, 3), **options}), Context(image_shape=shape))


def scenes(b: int) -> Tensor:
    return to_images(ShapesDataset(ShapesConfig(), Context()).samples("train", np.arange(b)).images)


def book(codes: int = 8, width: int = 2, decay: float = 0.9, restart: int = 0, commitment: float = 0.25) -> Codebook:
    torch.manual_seed(0)
    return Codebook(codes, width, commitment, decay, restart)


@pytest.mark.parametrize("make", [vq, fsq])
def test_ids_lie_on_the_grid_row_by_row(make) -> None:  # type: ignore[no-untyped-def]
    tokenizer: ConvTokenizer = make((3, 32, 48), patch=2, channels=(8, 16)).eval()
    assert tokenizer.grid == (8, 12)
    ids = tokenizer.encode(scenes(1)[..., :1].expand(-1, -1, -1, 48))
    other = ids.clone()
    other[0, 3 * 12 + 7] = (other[0, 3 * 12 + 7] + 1) % tokenizer.vocabulary
    moved = (tokenizer.decode(other) - tokenizer.decode(ids)).abs().sum((0, 1))
    # Where the image changes most is in or beside the token's own 4 × 4 pixels.
    row, column = divmod(int(moved.argmax()), 48)
    assert abs(row - (3 * 4 + 1.5)) <= 4 and abs(column - (7 * 4 + 1.5)) <= 4


def test_a_model_takes_no_images_for_no_images() -> None:
    model = Model({"image_tokenizer": vq()}, {}, (3, 32, 32)).eval()
    none = np.zeros((0, 32, 32, 3), np.uint8)
    assert reconstruct(model, none).shape == none.shape and len(image_tokens(model, none)) == 0
    some = ShapesDataset(ShapesConfig(), Context()).samples("train", np.arange(3)).images
    assert image_tokens(model, some, batch=2).shape == (3, 64)
    assert np.array_equal(reconstruct(model, some, batch=2), reconstruct(model, some))


@pytest.mark.slow
@pytest.mark.parametrize(("make", "options"), [(vq, {"codes": 128}), (fsq, {"levels": (5, 5, 5)})])
def test_it_learns_to_reconstruct(make, options) -> None:  # type: ignore[no-untyped-def]
    tokenizer: ConvTokenizer = make(channels=(32,), **options)
    y = scenes(8)
    optimizer = torch.optim.Adam(tokenizer.parameters(), 3e-3)
    average = {name: p.detach().clone() for name, p in tokenizer.named_parameters()}
    for _ in range(250):
        found = tokenizer(y)
        optimizer.zero_grad()
        ((found.image - y).square().mean() + found.regularisation.mean()).backward()
        optimizer.step()
        for name, p in tokenizer.named_parameters():
            average[name].lerp_(p.detach(), 0.1)

    @torch.no_grad()
    def error() -> float:
        return float((tokenizer.decode(tokenizer.encode(y)) - y).square().mean())

    tokenizer.eval()
    raw = error()
    assert raw < 0.2 * float((y - y.mean((0, 2, 3), keepdim=True)).square().mean())
    # The codes stay as they are under averaged weights, and fit them as well.
    tokenizer.load_state_dict(tokenizer.state_dict() | average)
    assert error() < 1.2 * raw


@pytest.mark.parametrize("make", [vq, fsq])
def test_decoding_what_was_encoded_is_reconstructing(make) -> None:  # type: ignore[no-untyped-def]
    tokenizer: ConvTokenizer = make()
    y = scenes(4)
    tokenizer(y)  # a codebook that has seen something
    tokenizer.eval()
    found = tokenizer.reconstruct(y)
    assert torch.equal(found.ids, tokenizer.encode(y))
    torch.testing.assert_close(found.image, tokenizer.decode(found.ids), atol=1e-6, rtol=0)
    before = {name: tensor.clone() for name, tensor in tokenizer.state_dict().items()}
    tokenizer.reconstruct(scenes(8))
    assert all(torch.equal(tensor, before[name]) for name, tensor in tokenizer.state_dict().items())


def test_codebook_chooses_the_nearest_code() -> None:
    quantiser, z = book(), torch.randn(3, 5, 2)
    codes, ids, commitment = quantiser.eval()(z)
    distances = (z[:, :, None] - quantiser.codes).square().sum(-1)
    assert torch.equal(ids, distances.argmin(-1))
    assert torch.equal(codes, quantiser.codes[ids])
    torch.testing.assert_close(commitment, 0.25 * distances.amin(-1).mean(1) / 2)


def test_gradient_goes_straight_through_and_the_commitment_pulls() -> None:
    quantiser = book()
    z, weight = torch.randn(2, 3, 2, requires_grad=True), torch.randn(2, 3, 2)
    codes, _, commitment = quantiser.eval()(z)
    through, pulled = torch.autograd.grad((codes * weight).sum(), z, retain_graph=True)[0], torch.autograd.grad(commitment.sum(), z)[0]
    torch.testing.assert_close(through, weight)
    torch.testing.assert_close(pulled, 0.25 * 2 * (z - codes).detach() / 6)


def test_codes_are_moving_averages() -> None:
    """Against appendix A.1 written out: N ← γN + (1 − γ)n, m ← γm + (1 − γ)Σz, e = m / N."""
    quantiser = book(codes=4)
    uses, sums = torch.full((4,), 3.0), 3.0 * quantiser.codes
    quantiser.uses.copy_(uses)
    for step in range(6):
        z = torch.randn(2, 7, 2, generator=torch.Generator().manual_seed(step))
        chosen = torch.nn.functional.one_hot(quantiser.ids(z).flatten(), 4).float()
        quantiser(z)
        uses = 0.9 * uses + 0.1 * chosen.sum(0)
        sums = 0.9 * sums + 0.1 * chosen.T @ z.flatten(0, 1)
        torch.testing.assert_close(quantiser.codes, sums / uses[:, None], rtol=1e-4, atol=1e-5)


def test_codes_that_nobody_chooses_stay() -> None:
    quantiser = book(codes=2, decay=0.5)
    quantiser.codes.copy_(torch.tensor([[0.0, 0.0], [50.0, 50.0]]))
    for _ in range(300):
        quantiser(torch.randn(1, 6, 2) * 0.1)
    assert quantiser.codes[1].tolist() == [50, 50]
    assert bool(quantiser.codes.isfinite().all())


def test_dead_codes_are_revived() -> None:
    torch.manual_seed(0)
    clusters = torch.randn(8, 2) * 5
    z = (clusters[:, None] + 0.01 * torch.randn(8, 16, 2)).flatten(0, 1)[None]
    started = torch.randn(16, 2) * 0.1 + 100
    started[0] -= 20  # all far away: the nearest one takes everything

    def train(restart: int) -> tuple[int, float]:
        quantiser = book(codes=16, restart=restart)
        quantiser.codes.copy_(started)
        quantiser.idle.zero_()
        for _ in range(80):
            quantiser(z)
        codes, ids, _ = quantiser.eval()(z)
        return len(ids.unique()), float((codes - z).square().mean())

    used, error = train(restart=5)
    alone, far = train(restart=0)
    assert alone == 1 and far > 1
    assert used >= 8 and error < 0.01


def test_the_first_batch_sets_the_codebook() -> None:
    quantiser, z = book(restart=20), 30 + torch.randn(1, 64, 2)
    quantiser(z)
    # Those that were chosen are on the mean of their places, all others on a place.
    assert float((quantiser.codes - z[0].mean(0)).abs().max()) < 4
    nearest = (quantiser.codes[:, None] - z[0]).square().sum(-1).amin(1)
    assert int((nearest < 1e-9).sum()) >= 7


def test_a_restart_is_keyed_by_torchs_generator() -> None:
    z, found = torch.randn(2, 9, 2), []
    for _ in range(2):
        quantiser = book(restart=1)
        torch.manual_seed(5)
        quantiser(z)
        found.append(quantiser.codes.clone())
    assert torch.equal(*found)


RANK = """
import sys, torch, torch.distributed as dist
from ibllm_tokens.latent_codec import Standardiser
from ibllm_tokens.quantisers import Codebook
rank, ranks, place, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
if ranks > 1:
    dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=ranks)
torch.manual_seed(0)
still, moving, still_scale = Codebook(8, 2, 0.25, 0.9, 0), Codebook(8, 2, 0.25, 0.9, 2), Standardiser(2, 0.5)
share = 4 // ranks
for step in range(6):
    z = torch.randn(4, 6, 2, generator=torch.Generator().manual_seed(step))[rank * share : (rank + 1) * share]
    torch.manual_seed(100 * step + rank)
    still(z), moving(z), still_scale.follow(z.transpose(1, 2).unflatten(2, (2, 3)))
states = {"still": still.state_dict(), "moving": moving.state_dict(), "still_scale": still_scale.state_dict()}
torch.save({f"{name}.{key}": tensor for name, state in states.items() for key, tensor in state.items()}, f"{folder}/{ranks}-{rank}.pt")
if ranks > 1:  # nobody leaves while another still talks
    dist.barrier()
    dist.destroy_process_group()
"""


@pytest.mark.slow
def test_processes_keep_one_codebook_and_one_scale(tmp_path: Path) -> None:
    def start(rank: int, ranks: int) -> subprocess.Popen[str]:
        command = processes.command("-c", textwrap.dedent(RANK), rank, ranks, tmp_path / f"meet-{ranks}", tmp_path)
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    for process in [start(0, 1), start(0, 2), start(1, 2)]:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    one, first, second = (torch.load(tmp_path / f"{name}.pt") for name in ("1-0", "2-0", "2-1"))
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
        if name.startswith("still"):  # without restarts two processes are one with the whole batch
            torch.testing.assert_close(tensor, one[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("levels", [(3,), (4, 3), (8, 5, 5), (5, 4, 3, 6)])
def test_levels_and_ids_are_one_to_one(levels: tuple[int, ...]) -> None:
    """Brute force over all ids, and over all combinations of levels."""
    quantiser = FiniteScalarQuantiser(levels)
    every = torch.arange(math.prod(levels))[None]
    codes = quantiser.vectors(every)
    assert len({tuple(code) for code in codes[0].tolist()}) == quantiser.vocabulary == math.prod(levels)
    assert float(codes.abs().max()) <= 1
    # Digits in a mixed radix, the first the least: count up with the last level as the outer loop.
    grids = [[(digit - n // 2) / (n // 2) for digit in range(n)] for n in reversed(levels)]
    wanted = torch.tensor([combination[::-1] for combination in itertools.product(*grids)])
    torch.testing.assert_close(codes[0], wanted, atol=1e-6, rtol=0)
    # A code put back before the tanh is quantised to its own id.
    units = codes * quantiser.scale
    z = torch.atanh((units + quantiser.offset) / quantiser.half_range) - torch.atanh(quantiser.offset / quantiser.half_range)
    assert torch.equal(quantiser.ids(z), every)
    again, ids, commitment = quantiser(z)
    assert torch.equal(again, codes) and torch.equal(ids, every) and commitment.tolist() == [0]


@pytest.mark.parametrize("levels", [(4, 5), (8, 3)])
def test_numbers_are_bounded_as_the_paper_says(levels: tuple[int, ...]) -> None:
    """Every level is reached, no other is, and zero is the level in the middle: even numbers of levels have one more below it."""
    quantiser = FiniteScalarQuantiser(levels)
    z = torch.linspace(-20, 20, 4001)[:, None].expand(-1, 2)
    rounded = quantiser.bound(z).round()
    for number, n in enumerate(levels):
        assert sorted(set(rounded[:, number].tolist())) == list(range(-(n // 2), (n - 1) // 2 + 1))
    torch.testing.assert_close(quantiser.bound(torch.zeros(1, 2)), torch.zeros(1, 2), atol=1e-6, rtol=0)


def test_rounding_has_the_gradient_of_the_bound() -> None:
    quantiser = FiniteScalarQuantiser((8, 5))
    z = torch.randn(1, 6, 2, dtype=torch.float32, requires_grad=True)
    found = torch.autograd.grad(quantiser(z)[0].sum(), z)[0]
    wanted = torch.autograd.grad((quantiser.bound(z) / quantiser.scale).sum(), z)[0]
    torch.testing.assert_close(found, wanted)
    assert bool((found > 0).all())


def test_meta_walk_in_train_mode() -> None:
    with torch.device("meta"):
        for tokenizer in (vq(), fsq()):
            found = tokenizer.train()(torch.zeros(2, 3, 32, 32))
            assert found.image.shape == (2, 3, 32, 32) and found.ids.shape == (2, 64) and found.regularisation.shape == (2,)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="expected 16 to divide the image's 32 × 24"):
        vq((3, 32, 24), patch=8, channels=(8, 8))
    with pytest.raises(ValueError, match="at least one stage"):
        VQConfig(channels=())
    with pytest.raises(ValueError, match="at least one number"):
        FSQConfig(levels=())
    with pytest.raises(ValueError, match="levels"):
        FSQConfig(levels=(2, 5))
    assert "regularisation" in VQConfig().provides() and "regularisation" not in FSQConfig().provides()
