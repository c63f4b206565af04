"""The bar of speed on one card, as a Markdown table, beside hand-written baselines in the same process.

    python gpu.py [--only PART]… [--json FILE] [--limit SECONDS] [--tiny]

It needs nothing but the installed package and takes at most six minutes on one card. What fails in one part is said in its row and costs no other part. With
`--tiny` everything is small and runs on a CPU too, in seconds: that shows that the script works, and measures nothing.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

# Read when CUDA's libraries are first used: products are the same ones in every run where deterministic kernels are asked for.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import attrs
import numpy as np
import torch
import torch.nn.functional as F
from ibllm_profile.figures import together
from ibllm_profile.measuring import look
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ibllm import capture, passes
from ibllm_core.interfaces.batch import Batch
from ibllm_core.interfaces.noise import Rng
from ibllm_core.model import build
from ibllm_core.model.compute import arithmetic
from ibllm_core.recipe import load
from ibllm_core.recipe.schema import Compute
from ibllm_core.runs.directory import RunDirectory, write_json
from ibllm_core.runs.model_folder import WEIGHTS, read_weights
from ibllm_core.training.events import Listener, Stepped
from ibllm_core.training.job import Interrupted, Job
from ibllm_core.training.session import Session

#: Seconds that all parts may take together, with a little left to write the table.
LIMIT = 345.0
#: What `[compute]` knows in this version.
KNOWN = attrs.fields_dict(Compute)
#: Little is measured after the training.
FEW = ("evaluation.items=4", "evaluation.samples=1", "evaluation.after_stage=0", "trackers.tensorboard=false")
#: A recipe so small that it only shows that a part of the script works.
TINY = ("model.width=16", "training.batch=4", "data.train_size=64", "compute.threads=1", "model.image_encoder.channels=[8,8]", *FEW)
Results = dict[str, Any]
#: A part gives what it finds as it finds it, so that what fails later costs nothing that is there.
Found = Iterator[tuple[str, Any]]


@attrs.frozen
class Plan:
    """Where it is measured, and how long."""

    device: torch.device
    tiny: bool

    @property
    def card(self) -> bool:
        return self.device.type != "cpu"

    @property
    def steps(self) -> int:
        return 1 if self.tiny else 20

    def of(self, small: Any, full: Any) -> Any:
        return small if self.tiny else full

    def synchronise(self) -> None:
        if self.card:
            torch.accelerator.synchronize(self.device)


@contextmanager
def opened(plan: Plan, recipe: str, *sets: str) -> Iterator[Session]:
    """A session of a recipe that ships with the package, with overrides, those for a tiny one included."""
    small = TINY if plan.tiny else ()
    found = load(Path(f"ibllm:{recipe}"), (f"compute.device={plan.device.type}", *small, *sets))
    with tempfile.TemporaryDirectory(prefix="ibllm-gpu-") as folder, arithmetic(found.compute.precision == "tf32"):
        session = Session(found, RunDirectory(Path(folder) / "run"))
        passes.arrange(session)
        yield session
    gc.collect()
    if plan.device.type == "cuda":
        torch.cuda.empty_cache()


def of_few_steps(count: int) -> list[str]:
    """Overrides for three short stages without validation."""
    return [f"stages.{stage}.{key}" for stage in ("text", "image", "joint") for key in (f"steps={count}", "validate.every=0")]


def ready(session: Session, stage: str, count: int) -> list[list[Batch]]:
    """Some batches of a stage, on the device: the card does not wait for data."""
    with closing(session.feeder(session.recipe.stages[stage])) as feeder:
        return [[batch.to(session.model.device) for batch in micro] for micro in itertools.islice(iter(feeder), count)]


def stage_figures(plan: Plan, session: Session, stage: str, fed: bool = True) -> Results:
    """Step time with the data ready and what the card does of it; then, where it is `fed`, the part of the time in which data are waited for."""
    trainer = session.trainer(session.recipe.stages[stage])
    capture.arrange(session, trainer)
    with tempfile.TemporaryDirectory() as folder:
        rows, _ = look(trainer, itertools.cycle(ready(session, stage, plan.of(1, 8))), plan.steps, Path(folder))
    row, captures = together(stage, rows), trainer.replays
    found: Results = {"step_ms": 1000 * row.step, "kernels": row.kernels, "captures": None if captures is None else captures.described()}
    if row.device_busy is not None:
        found |= {"busy": row.device_busy, "work_ms": 1000 * row.step * row.device_busy, "synchronisations": row.synchronisations}
    found["operations"] = {one.name: one.share for one in row.operations[:5]}
    if fed:
        found |= fed_figures(plan, session, trainer)
    return found


def fed_figures(plan: Plan, session: Session, trainer: Any) -> Results:
    """Iterations as training has them: what each takes, and the part of it in which the next batch is waited for."""
    trainer.go_to(0, dict.fromkeys((player.name for player in trainer.players), 0))
    with closing(session.feeder(trainer.stage)) as feeder:
        batches, waited, steps = iter(feeder), 0.0, plan.of(1, 48)
        for _ in range(plan.of(1, 16)):
            trainer.iterate(next(batches))
        plan.synchronise()
        begun = time.perf_counter()
        for _ in range(steps):
            since = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - since
            trainer.iterate(batch)
        plan.synchronise()
        seconds = time.perf_counter() - begun
    return {"fed_ms": 1000 * seconds / steps, "waiting": waited / seconds}


def milliseconds(plan: Plan, play: Callable[[int], object], warm_up: int = 8) -> float:
    """Median of what a step takes."""
    for number in range(plan.of(1, warm_up)):
        play(number)
    plan.synchronise()
    seconds, events = [], []
    for number in range(plan.steps):
        if plan.device.type == "cuda":
            events.append(torch.cuda.Event(enable_timing=True))
            events[-1].record()
            play(number)
        else:
            begun = time.perf_counter()
            play(number)
            plan.synchronise()
            seconds.append(time.perf_counter() - begun)
    if events:
        events.append(torch.cuda.Event(enable_timing=True))
        events[-1].record()
        events[-1].synchronize()
        return statistics.median(a.elapsed_time(b) for a, b in itertools.pairwise(events))
    return 1000 * statistics.median(seconds)


# -- joint.toml -------------------------------------------------------------------------------------------------------------------------


def command(plan: Plan) -> Found:
    """The whole of joint.toml by a fresh process."""
    with tempfile.TemporaryDirectory(prefix="ibllm-gpu-") as folder:
        sets = [f"compute.device={plan.device.type}", *((*TINY, *of_few_steps(1)) if plan.tiny else ())]
        words = [sys.executable, "-m", "ibllm", "run", "ibllm:joint", "--run-dir", f"{folder}/run"]
        words += [word for one in sets for word in ("--set", one)]
        begun = time.perf_counter()
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - begun
        if done.returncode:
            raise RuntimeError(f"exit code {done.returncode}: {done.stderr.strip()[-500:]}")
        info = json.loads(Path(folder, "run", "run.json").read_text(encoding="utf-8"))
        results = json.loads(Path(folder, "run", "results.json").read_text(encoding="utf-8"))
    yield from {"command_s": seconds, "timings": info["timings"], "notices": info.get("notices", []), "results": results}.items()


def steps(plan: Plan) -> Found:
    """The three stages of joint.toml at two sizes of batch."""
    for size in plan.of((4,), (48, 512)):
        with opened(plan, "joint", f"training.batch={size}") as session:
            yield str(size), {stage.name: stage_figures(plan, session, stage.name) for stage in session.recipe.running()}


def gan(plan: Plan) -> Found:
    """The image stage of joint.toml, and the same step by hand on the same parts."""
    with opened(plan, "joint") as session:
        ours = stage_figures(plan, session, "image", fed=False)
        trainer = session.trainer(session.recipe.stages["image"])  # which sets what is trained
        by_hand = HandWrittenGAN(session, [micro[0] for micro in ready(session, "image", plan.of(1, 8))], trainer.stage.training.clip)
        spent = milliseconds(plan, by_hand.step)
    yield from {"ours_ms": ours["step_ms"], "by_hand_ms": spent, "ratio": ours["step_ms"] / spent}.items()


class HandWrittenGAN:
    """The image stage of joint.toml as one would write it in plain PyTorch: the critic's step, then the model's, on the parts of a session."""

    def __init__(self, session: Session, batches: Sequence[Batch], clip: float) -> None:
        self.parts, self.batches, self.clip, self.precision = session.model.parts, batches, clip, session.model.precision
        device = session.model.device
        options = {"fused": device.type in ("cuda", "cpu")}
        names = ("image_encoder", "text_decoder", "image_decoder")
        self.critic = list(self.parts["discriminator"].parameters())
        self.model = [p for name in names for p in self.parts[name].parameters()]
        self.of_critic = torch.optim.AdamW(self.critic, lr=5e-4, betas=(0.0, 0.99), weight_decay=0.0, **options)
        self.of_model = torch.optim.AdamW(self.model, lr=2e-3, betas=(0.9, 0.99), **options)
        self.average = [p.detach().clone() for p in self.model]

    def step(self, number: int) -> None:
        batch, parts = self.batches[number % len(self.batches)], self.parts
        y = as_image(batch.y)
        with self.precision():
            with torch.no_grad():
                z = parts["text_encoder"](batch.x)
            fake = parts["image_decoder"].draw(z, torch.randn(len(y), parts["image_decoder"].noise_width, device=y.device))
            loss = self.critics(y, fake.detach(), z, penalised=number % 4 == 0)
        self.of_critic.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.critic, self.clip)
        self.of_critic.step()

        for p in self.critic:
            p.requires_grad_(False)
        with self.precision():
            with torch.no_grad():
                real = parts["discriminator"](y, z)
            adversarial = F.softplus(real - parts["discriminator"](fake, z)).mean()
            image = parts["image_decoder"].likelihood(y, fake).mean() / y[0].numel()
            text = parts["text_decoder"](batch.x_out, parts["image_encoder"](y)).sum() / batch.x_out.mask[:, 1:].sum()
            loss = text + image + 0.1 * adversarial
        self.of_model.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model, self.clip)
        self.of_model.step()
        torch._foreach_lerp_(self.average, [p.detach() for p in self.model], 0.01)
        for p in self.critic:
            p.requires_grad_(True)

    def critics(self, y: Tensor, fake: Tensor, z: Any, penalised: bool) -> Tensor:
        """The relativistic loss with mismatched captions; every fourth time R1 and R2 on top, four times as strong."""
        critic = self.parts["discriminator"]
        seen = critic.look(y)
        real = critic.judge(seen, z)
        loss = F.softplus(critic(fake, z) - real).mean() + 0.5 * F.softplus(critic.judge(seen, z.roll()) - real).mean()
        if penalised:
            for image in (y, fake):
                leaf = image.detach().clone().requires_grad_(True)
                with sdpa_kernel(SDPBackend.MATH):
                    score = critic(leaf, z).sum()
                (slope,) = torch.autograd.grad(score, leaf, create_graph=True)
                loss = loss + 4 * slope.float().square().flatten(1).sum(1).mean()
        return loss


def as_image(y: Tensor) -> Tensor:
    """Pixels as floats in [−1, 1], whatever a batch holds them in."""
    return y.float() / 127.5 - 1 if y.dtype == torch.uint8 else y


# -- flow and the image transformer -----------------------------------------------------------------------------------------------------


def flow(plan: Plan) -> Found:
    """The flow at 64 pixels, its text stage."""
    for size in plan.of((4,), (64, 256)):
        small = ("model.image_decoder.channels=[8]", "model.image_decoder.depth=1")
        sets = (f"data.size={plan.of(32, 64)}", f"stages.text.batch={size}", *(small if plan.tiny else ()))
        with opened(plan, "families/flow", *sets) as session:
            yield str(size), stage_figures(plan, session, "text")


#: Width, depth and heads of the image transformer, and items in a batch.
TRANSFORMER = {"width": 768, "depth": 12, "heads": 12, "batch": 128}
SMALL_TRANSFORMER = {"width": 16, "depth": 1, "heads": 2, "batch": 4}


def vq(plan: Plan) -> Found:
    """A transformer of 130 million parameters over 32 places of text and 256 of the image, beside a hand-written decoder of the same shape.

    The pass of the image tokenizer and the text encoder are part of both steps, and so are clipping and the moving average of weights.
    """
    shape = plan.of(SMALL_TRANSFORMER, TRANSFORMER)
    sets = [
        f"data.size={plan.of(32, 64)}",
        f"model.width={shape['width']}",
        f"model.text_encoder.heads={shape['heads']}",
        f"model.text_encoder.depth={plan.of(1, 4)}",
        "model.text_encoder.ratio=4.0",
        f"model.image_decoder.depth={shape['depth']}",
        f"model.image_decoder.heads={shape['heads']}",
        "model.image_decoder.ratio=4.0",
        f"stages.text.batch={shape['batch']}",
        *(["model.image_tokenizer.channels=[8,8]"] if plan.tiny else []),
    ]
    for way in plan.of(("eager",), ("eager", "compiled")):
        compiled = way == "compiled"
        with opened(plan, "families/vq_transformer", *sets, f"compute.compile={'true' if compiled else 'false'}") as session:
            ours = stage_figures(plan, session, "text", fed=not compiled)
            batches = [micro[0] for micro in ready(session, "text", plan.of(1, 8))]
            by_hand = HandWrittenTransformer(session, batches, shape, compiled)
            spent = milliseconds(plan, by_hand.step)
            sizes = [sum(p.numel() for p in module.parameters()) for module in (session.model, by_hand.decoder)]
            del by_hand
        ours |= {"by_hand_ms": spent, "ratio": ours["step_ms"] / spent, "parameters": sizes[0], "parameters_by_hand": sizes[1]}
        yield way, ours
        torch.compiler.reset()


class Block(nn.Module):
    """A layer of GPT-2 (Radford et al. 2019)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.between, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.before(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.between(x))))


class Decoder(nn.Module):
    """A GPT over the latent's places and then the image's tokens; gives the mean cross entropy of these."""

    def __init__(self, latent: int, width: int, depth: int, heads: int, vocabulary: int, places: int) -> None:
        super().__init__()
        self.enter, self.embedding = nn.Linear(latent, width), nn.Embedding(vocabulary, width)
        self.first, self.positions = nn.Parameter(torch.randn(1, 1, width)), nn.Parameter(0.02 * torch.randn(places, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary)

    def forward(self, z: Tensor, ids: Tensor) -> Tensor:
        """z (b n d), ids (b m) → ()."""
        image = torch.cat([self.first.expand(len(z), 1, -1), self.embedding(ids[:, :-1])], 1) + self.positions
        x = torch.cat([self.enter(z), image], 1)
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x[:, z.shape[1] :]))
        return F.cross_entropy(logits.flatten(0, 1).float(), ids.flatten())


class HandWrittenTransformer:
    """A step of `Decoder` behind a session's own text encoder and image tokenizer."""

    def __init__(self, session: Session, batches: Sequence[Batch], shape: Mapping[str, int], compiled: bool) -> None:
        parts, self.batches, self.precision = session.model.parts, batches, session.model.precision
        self.clip = session.recipe.stages["text"].training.clip
        self.tokenizer: Any = parts["image_tokenizer"]
        rows, columns = self.tokenizer.grid
        width = session.recipe.latent_width("text_encoder")
        self.decoder = Decoder(width, shape["width"], shape["depth"], shape["heads"], self.tokenizer.vocabulary, rows * columns)
        self.decoder.to(session.model.device)
        self.weights = [*self.decoder.parameters(), *parts["text_encoder"].parameters()]
        self.optimizer = torch.optim.AdamW(self.weights, lr=1e-4, betas=(0.9, 0.99), fused=True)
        self.average = [p.detach().clone() for p in self.weights]
        # A session that compiles has compiled its text encoder.
        self.encode, self.score = parts["text_encoder"], torch.compile(self.decoder) if compiled else self.decoder

    def step(self, number: int) -> None:
        batch = self.batches[number % len(self.batches)]
        with self.precision():
            with torch.no_grad():
                ids = self.tokenizer.encode(as_image(batch.y))
            loss = self.score(self.encode(batch.x).tokens, ids)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, self.clip)
        self.optimizer.step()
        torch._foreach_lerp_(self.average, [p.detach() for p in self.weights], 0.01)


# -- data and the loop ------------------------------------------------------------------------------------------------------------------


def feed(plan: Plan) -> Found:
    """Items a second of the dataset `shapes` with the captions' tokens, as training is fed with them, by so many workers."""
    if "workers" not in KNOWN:
        yield "one thread", _items_per_second(plan)
        yield "left_out", "this version has no compute.workers; one thread makes the data"
        return
    for workers in plan.of((0, 1), (8, 0, 1)):
        yield str(workers), _items_per_second(plan, f"compute.workers={workers}")


def _items_per_second(plan: Plan, *sets: str) -> float:
    size = plan.of(4, 512)
    with (
        opened(plan, "joint", f"training.batch={size}", *sets) as session,
        closing(session.feeder(session.recipe.stages["text"])) as feeder,
    ):
        batches, made = iter(feeder), 0
        for _ in range(plan.of(1, 24)):  # workers are started, and what is made ahead is made
            next(batches)
        plan.synchronise()
        begun = time.perf_counter()
        while (spent := time.perf_counter() - begun) < plan.of(0.01, 3.0):
            next(batches)
            made += size
        return made / spent


def loop(plan: Plan) -> Found:
    """The text stage of joint.toml on the CPU, by the loop and by hand on the same parts, in turns."""
    cpu = attrs.evolve(plan, device=torch.device("cpu"))
    with opened(cpu, "joint", "training.ema=0.0", "training.accumulate=1") as session:
        batches, ratios = ready(session, "text", plan.of(1, 8)), []
        for _ in range(plan.of(1, 7)):
            seconds = []
            for way in (_by_hand, _by_loop):
                begun = time.perf_counter()
                way(session, batches)
                seconds.append(time.perf_counter() - begun)
            ratios.append(seconds[1] / seconds[0])
    yield from {"ratio": statistics.median(ratios), "ratios": ratios, "threads": torch.get_num_threads()}.items()


def _by_hand(session: Session, batches: Sequence[Sequence[Batch]]) -> None:
    encoder, decoder = session.model.parts["text_encoder"], session.model.parts["image_decoder"]
    named = {f"{number}.{name}": p for number, part in enumerate((encoder, decoder)) for name, p in part.named_parameters()}
    optimizer, clip = build.build_optimizer(session.recipe, "model").build(named), session.recipe.stages["text"].training.clip
    for step, (batch,) in enumerate(batches):
        y, z = as_image(batch.y), encoder(batch.x)
        loss = decoder.likelihood(y, decoder.draw(z, decoder.noise(z, Rng((0, "train", step), batch.numbers)))).mean() / y[0].numel()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(list(named.values()), clip)
        optimizer.step()


def _by_loop(session: Session, batches: Sequence[list[Batch]]) -> None:
    trainer = session.trainer(session.recipe.stages["text"])
    for batch in batches:
        trainer.iterate(batch)
    trainer.read()


# -- does it compute the same? ----------------------------------------------------------------------------------------------------------


@contextmanager
def deterministic() -> Iterator[None]:
    """Within, kernels are those that give the same bits every time, where there are any."""
    backends: Any = torch.backends
    before = backends.cudnn.deterministic, backends.cudnn.benchmark
    backends.cudnn.deterministic, backends.cudnn.benchmark = True, False
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*deterministic")
            yield
    finally:
        torch.use_deterministic_algorithms(False)
        backends.cudnn.deterministic, backends.cudnn.benchmark = before


def numbers(plan: Plan) -> Found:
    """`Rng` on the card and on the CPU: integers bit for bit, floats within a unit in the last place."""
    if not plan.card:
        yield "left_out", "there is one device only"
        return
    here, there = (Rng((7, "gpu.py"), np.arange(512), device) for device in ("cpu", plan.device))
    whole = torch.equal(here.integers(2**53, 4096), there.integers(2**53, 4096).cpu())
    kept = torch.equal(here.kept(0.1, 4096), there.kept(0.1, 4096).cpu())
    apart = {}
    for name in ("uniform", "normal"):
        a, b = (getattr(rng, name)(4096).cpu().numpy() for rng in (here, there))
        apart[name] = float((np.abs(a.astype(np.float64) - b) / np.spacing(np.maximum(np.abs(a), np.abs(b)))).max())
    return {
        "ok": whole and kept and max(apart.values()) <= 1,
        "integers_equal": whole,
        "kept_equal": kept,
        "units_in_the_last_place": apart,
    }


def replay(plan: Plan) -> Found:
    """Twenty iterations of every stage, replayed and eager, with deterministic kernels: the same bits."""
    if "graphs" not in KNOWN:
        yield "left_out", "this version has no compute.graphs"
        return
    if plan.device.type != "cuda":
        yield "left_out", "there is no CUDA device"
        return
    same = True
    for recipe in ("joint", "families/transformer_gan", "families/flow"):
        eager, replayed = (_twenty(plan, recipe, graphs) for graphs in ("false", "true"))
        again: dict[str, tuple[dict[str, Tensor], int]] = {}
        for stage, (weights, count) in replayed.items():
            apart = _apart(weights, eager[stage][0])
            one: Results = {"ok": not apart and count > 0, "replayed": count, "tensors_that_differ": len(apart)}
            if apart:
                again = again or _twenty(plan, recipe, "false")
                between = _apart(again[stage][0], eager[stage][0])
                one |= {"farthest": max(apart.values()), "farthest_of_two_eager": max(between.values(), default=0.0)}
            same = same and one["ok"]
            yield f"{recipe}/{stage}", one
    yield "ok", same


def _twenty(plan: Plan, recipe: str, graphs: str) -> dict[str, tuple[dict[str, Tensor], int]]:
    """Stage → the weights after twenty iterations from the first weights, and how many of these were replayed."""
    found = {}
    with deterministic(), opened(plan, recipe, f"compute.graphs={graphs}") as session:
        first = {group: {name: t.detach().clone() for name, t in tensors.items()} for group, tensors in session.shared().items()}
        for stage in session.recipe.running():
            session.take(first)
            trainer = session.trainer(stage)
            capture.arrange(session, trainer)
            for micro in itertools.islice(itertools.cycle(ready(session, stage.name, 2)), 20):
                trainer.iterate(micro)
            trainer.read()
            weights = {name: t.detach().cpu().clone() for name, t in session.shared()["weights"].items()}
            found[stage.name] = weights, trainer.replays.replayed if trainer.replays is not None else 0
    return found


def _apart(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> dict[str, float]:
    """Tensors that differ in a bit → their largest distance."""
    return {name: float((a[name].double() - b[name].double()).abs().max()) for name in a if not torch.equal(a[name], b[name])}


def resume(plan: Plan) -> Found:
    """A run that is stopped in its second stage and goes on, against one that is not stopped: the same bits."""
    count = plan.of(2, 12)
    sets = [f"compute.device={plan.device.type}", *(TINY if plan.tiny else FEW)]
    recipe = load(Path("ibllm:joint"), (*sets, *of_few_steps(count)))
    with tempfile.TemporaryDirectory(prefix="ibllm-gpu-") as folder, deterministic():
        whole, cut = Path(folder, "whole"), Path(folder, "cut")
        Job(recipe, whole).run()

        class Stops(Listener):
            def on_stepped(self, event: Stepped) -> None:
                if event.stage.name == "image" and event.step == math.ceil(count / 2):
                    job.stop()

        job = Job(recipe, cut, [Stops()])
        try:
            job.run()
        except Interrupted:
            Job(recipe, cut).run(resume=True)
        a, b = (read_weights(path / "model" / WEIGHTS) for path in (whole, cut))
        differ = [name for name in a if not torch.equal(a[name], b[name])]
    yield "ok", not differ and job.stopping
    yield "tensors_that_differ", len(differ)


# -- the table --------------------------------------------------------------------------------------------------------------------------

#: Part → what measures it, and the most seconds that it may take. In the order in which they are run: the bar first.
PARTS: dict[str, tuple[Callable[[Plan], Found], float]] = {
    "command": (command, 110),
    "steps": (steps, 80),
    "flow": (flow, 40),
    "vq": (vq, 120),
    "numbers": (numbers, 10),
    "replay": (replay, 60),
    "feed": (feed, 40),
    "loop": (loop, 30),
    "resume": (resume, 45),
    "gan": (gan, 30),
}


def play(name: str, plan: Plan, seconds: float) -> Results:
    """One part; what goes wrong in it is its result."""

    def late(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds:.0f} s")

    print(f"{name} …", file=sys.stderr, flush=True)
    begun, alarmed = time.perf_counter(), hasattr(signal, "setitimer")
    before = signal.signal(signal.SIGALRM, late) if alarmed else None
    if alarmed:
        signal.setitimer(signal.ITIMER_REAL, seconds)
    found: Results = {}
    try:
        for key, value in PARTS[name][0](plan):
            found[key] = value
    except Exception as error:
        said = f"{type(error).__name__}: {error}".strip().splitlines()[0][:200].replace("|", "/")
        found |= {"error": said, "traceback": traceback.format_exc()}
    finally:
        if alarmed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    gc.collect()
    return found | {"seconds": round(time.perf_counter() - begun, 1)}


def cell(results: Mapping[str, Results], part: str, text: Callable[[Results], str]) -> str:
    """What a part has found, in words; why it has not."""
    found = results.get(part)
    if found is None:
        return "not measured"
    try:
        return text(found)
    except (KeyError, TypeError, ValueError) as error:
        if "error" in found:
            return f"failed: {found['error']}"
        return found.get("left_out") or f"not measured ({type(error).__name__}: {error})"


def listed(stages: Sequence[Results], key: str, form: str, factor: float = 1.0) -> str:
    """``20.7 / 78.8 / 98.5``"""
    return " / ".join(format(factor * stage[key], form) for stage in stages)


def _joint(size: str) -> Callable[[Results], str]:
    def text(found: Results) -> str:
        stages = list(found[size].values())
        said = f"{listed(stages, 'step_ms', '.3g')} ms"
        if all("busy" in stage for stage in stages):
            said += f" (card's work {listed(stages, 'work_ms', '.2g')}; busy {listed(stages, 'busy', '.0f', 100)} %)"
        return said

    return text


def waits(results: Mapping[str, Results]) -> str:
    """The most that any job waits for data."""
    jobs: dict[str, float] = {}
    tables = [("joint", stages) for stages in results.get("steps", {}).values()] + [
        ("flow", results.get("flow")),
        ("vq", results.get("vq")),
    ]
    for job, stages in tables:
        for name, found in stages.items() if isinstance(stages, dict) else ():
            if isinstance(found, dict) and "waiting" in found:
                jobs[f"{job} {name}"] = max(found["waiting"], jobs.get(f"{job} {name}", 0.0))
    worst = max(jobs, key=lambda name: jobs[name], default="")
    return f"{100 * jobs[worst]:.1f} % of the time at most ({worst})" if worst else "not measured"


def bar(plan: Plan, results: Mapping[str, Results]) -> list[tuple[str, str, str]]:
    """The rows of the bar."""
    size, flows, workers = plan.of(("4", "4", "1"), ("48", "256", "8"))
    way = plan.of("eager", "compiled")

    def fed(found: Results) -> str:
        number = found.get(workers, found.get("one thread"))
        said = f" ({found['left_out']})" if "left_out" in found else ""
        return f"{number:,.0f} items/s{said}; waiting {waits(results)}"

    def seconds(found: Results) -> str:
        return f"{found['command_s']:.0f} s"

    def flowing(found: Results) -> str:
        return f"{found[flows]['step_ms']:.3g} ms"

    def against(found: Results) -> str:
        if way not in found and "eager" in found:
            return f"{found['eager']['ratio']:.2f} × hand-written eager (compiled: {found.get('error', 'not measured')})"
        return f"{found[way]['ratio']:.2f} × hand-written {way}"

    def looped(found: Results) -> str:
        return f"{found['ratio']:.3f}"

    counted = "the image tokenizer's pass and the text encoder counted on both sides"
    return [
        ("joint.toml, whole command", cell(results, "command", seconds), "≤ 30 s (goal 20)"),
        (f"joint.toml steps, batch {size}", cell(results, "steps", _joint(size)), "≤ 4 / 9.5 / 13.5 ms; busy reported"),
        (f"flow, 64 px, batch {flows}", cell(results, "flow", flowing), "≤ 35 ms (goal 25)"),
        ("vq_transformer 130 M", cell(results, "vq", against), f"≤ 1.10 × ({counted})"),
        (
            f"feed, {workers} workers",
            cell(results, "feed", fed),
            "≥ 60 k `shapes`/s; no job above waits for data more than 3 % of its time",
        ),
        (
            "loop over hand-written on CPU",
            cell(results, "loop", looped),
            "≤ 1.03, and joint.toml on two CPU cores no slower than before, paired (tests/benchmarks)",
        ),
    ]


def beside(plan: Plan, results: Mapping[str, Results]) -> list[tuple[str, str]]:
    """What was measured beside the bar: baselines, other sizes, and whether it computes the same."""

    def transformer(way: str) -> Callable[[Results], str]:
        def text(found: Results) -> str:
            return f"{found[way]['step_ms']:.3g} ms; hand-written decoder of the same shape {found[way]['by_hand_ms']:.3g} ms"

        return text

    def plain(found: Results) -> str:
        return f"{found['ours_ms']:.3g} ms; the same step in plain PyTorch {found['by_hand_ms']:.3g} ms"

    def flowing(found: Results) -> str:
        return f"{found['64']['step_ms']:.3g} ms"

    def feeding(found: Results) -> str:
        return ", ".join(f"{name}: {one:,.0f} items/s" for name, one in found.items() if name != "seconds" and isinstance(one, float))

    def verdict(found: Results) -> str:
        wrong = [name for name, one in found.items() if isinstance(one, dict) and not one.get("ok", True)]
        return found.get("left_out") or ("yes" if found["ok"] else f"NO {', '.join(wrong)}")

    rows = [
        *([] if plan.tiny else [("joint.toml steps, batch 512", cell(results, "steps", _joint("512")))]),
        *([] if plan.tiny else [("flow, 64 px, batch 64", cell(results, "flow", flowing))]),
        *((f"vq_transformer, {way}", cell(results, "vq", transformer(way))) for way in plan.of(("eager",), ("eager", "compiled"))),
        ("image stage of joint.toml", cell(results, "gan", plain)),
        ("feed by workers", cell(results, "feed", feeding)),
        ("random numbers equal the CPU's (floats within 1 ulp)", cell(results, "numbers", verdict)),
        ("replayed and eager iterations are bit-equal", cell(results, "replay", verdict)),
        ("a resumed run is bit-equal", cell(results, "resume", verdict)),
    ]
    return rows


def markdown(plan: Plan, results: Mapping[str, Results]) -> str:
    """The table, and what stands beside it."""
    name = torch.cuda.get_device_name() if plan.device.type == "cuda" else plan.device.type
    what = "tiny sizes, which measure nothing" if plan.tiny else "medians"
    head = f"{name}, torch {torch.__version__}, {os.cpu_count()} CPU cores; {what}."
    lines = [head, "", "| | now | bar |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in bar(plan, results))]
    lines += ["", "| beside it | |", "|---|---|", *(f"| {' | '.join(row)} |" for row in beside(plan, results))]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints the table, writes the JSON. 1 where a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=PARTS, help="a part; may be repeated")
    parser.add_argument("--json", type=Path, help="where all figures go")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for all parts together")
    parser.add_argument("--tiny", action="store_true", help="small, in seconds, on a CPU where there is no card")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args(arguments)
    plan = Plan(torch.device(given.device), given.tiny)
    if not plan.card and not plan.tiny:
        parser.error("there is no card here; --tiny shows that the script works")
    machine = {"device": str(plan.device), "torch": torch.__version__, "cuda": torch.version.cuda, "python": sys.version}
    if plan.device.type == "cuda":
        machine["name"] = torch.cuda.get_device_name()
    begun, results, table = time.perf_counter(), dict[str, Results](), ""
    for name in given.only or PARTS:
        left = given.limit - (time.perf_counter() - begun)
        results[name] = play(name, plan, min(left, PARTS[name][1])) if left > 5 else {"error": f"no time left of {given.limit:.0f} s"}
        table = markdown(plan, results)
        if given.json:  # after each part: whoever stops the script keeps what there is
            spent = {"cores": os.cpu_count(), "tiny": plan.tiny, "seconds": time.perf_counter() - begun}
            write_json(given.json, {**machine, **spent, "parts": results, "table": table})
    print(table)
    return int(any("error" in one for one in results.values()))


if __name__ == "__main__":
    sys.exit(main())
