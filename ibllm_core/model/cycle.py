"""One batch on its way round: x → E_x → z_x → D_y → y' → E_y → z_y → D_x → x'. Every step computed at most once, on demand.

The cycle keeps only the model's side. The critic's scores are never kept: its own step would make them stale.
Shapes: b batch, c h w image, n latent places, d latent width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ..errors import UserError
from ..host.attribution import within
from ..interfaces.batch import Batch
from ..interfaces.image import Discriminator, DrawingDecoder, Reconstruction
from ..interfaces.latent import Latent, Tokens, at_least_float32
from ..interfaces.loss import AdversarialLoss, CriticLoss, Loss, Value, WholeBatchLoss, log, logging
from ..interfaces.noise import Rng, drawing_from
from ..interfaces.text import TextEncoder, asking
from ..recipe.schema import place_of
from .watch import Present, Watch

if TYPE_CHECKING:
    from .model import Model
    from .shares import Shares

_T = TypeVar("_T")


def step(part: str) -> Callable[[Callable[[Any], _T]], cached_property[_T]]:
    """Declares a method of the cycle as a step that a part of the model gives: computed once a batch, and the part's fault where it goes wrong."""

    def declare(compute: Callable[[Any], _T]) -> cached_property[_T]:
        @wraps(compute)
        def computed(cycle: Cycle) -> _T:
            return cycle.through(part, compute.__name__, lambda: compute(cycle))

        return cached_property(computed)

    return declare


class Cycle:
    """One batch and everything that is computed from it.

    Args:
        model: the parts.
        batch: on the model's device.
        losses: name → loss, so that a composite may ask for another's value.
        key: words that key this batch's noise (seed, stage).
        present: the iteration.
        shares: what this batch is a share of; None where it is a whole one.
        watch: told what is computed.
        number: which of this process's micro-batches it is.
    """

    def __init__(
        self,
        model: Model,
        batch: Batch,
        losses: Mapping[str, Loss | CriticLoss] | None = None,
        key: tuple[int | str, ...] = (0,),
        present: Present | None = None,
        shares: Shares | None = None,
        watch: Watch | None = None,
        number: int = 0,
    ) -> None:
        self.model, self.batch, self.number, self._present = model, batch, number, present or Present()
        self.losses, self._key, self._shares, self._watch = losses or {}, key, shares, watch or Watch()
        self._added: dict[str, Any] = {}
        self._values: dict[str, Tensor] = {}
        self._seen: dict[tuple[str, int, bool], tuple[Tensor, Any]] = {}
        self._passes = Counter[tuple[str, str]]()
        self._logged: dict[str, list[Tensor]] = {}
        self._watch.started(self)

    def __len__(self) -> int:
        return len(self.batch)

    @cached_property
    def _rng(self) -> Rng:
        numbers = self.batch.numbers if self.batch.keys is None else self.batch.keys
        return Rng(self._key, numbers, self.model.device, self._present.drawn)

    def rng(self, purpose: str) -> Rng:
        """A generator for this batch's items, keyed by seed, step and purpose."""
        return self._rng.fold(purpose)

    @contextmanager
    def drawing(self, place: str, name: str = "", logged: str = "") -> Iterator[None]:
        """Within, dropout has numbers of its own, the same whenever this batch's are computed again, whatever else is asked of it.

        Args:
            place: in the recipe, of what is computed.
            name: what is asked of it.
            logged: whose is what is logged meanwhile; whose it was before, where it is not said.
        """
        self._passes[place, name] += 1
        noting = logging(self._logged, logged, self.model.device) if logged else nullcontext()
        with drawing_from(self._rng.fold("dropout", place, name, self._passes[place, name])) as drew, noting:
            yield
            if drew():
                self.model.unkeyed.add(place)

    def of(self, batch: Batch) -> Cycle:
        """A cycle of another batch in the same iteration: nothing of it is computed yet, and it is no share."""
        return Cycle(self.model, batch, self.losses, self._key, self._present, watch=self._watch)

    # Steps that plugins add.

    def once(self, name: str, compute: Callable[[], _T], part: str = "") -> _T:
        """A step of a plugin's own: `compute` is called once a batch, however many losses ask.

        Args:
            name: begins with the plugin's package: ``my_package.word_grid``.
            compute: may ask for other steps.
            part: the part of the model that gives it, if it is one's.
        """
        if "." not in name:
            raise ValueError(
                f"{name!r}: expected the package's name before the step's, my_package.{name}, so that no two plugins share a step"
            )
        if name not in self._added:
            self._added[name] = self.through(part, name, compute)
        found: _T = self._added[name]
        return found

    def through(self, part: str, name: str, compute: Callable[[], _T], *inputs: Any) -> _T:
        """What a pass through a part gives, each time anew: who looks for a fault is told of it.

        Args:
            part: the part's name.
            name: what is asked of it.
            compute: makes the pass.
            inputs: what it is handed that is no step of the cycle; the part is not to blame for what was wrong before.
        """
        with within(place_of(part)), self.drawing(place_of(part), name, part and f"part/{part}"):
            value = compute()
        self._watch.computed(name, part, value, inputs)
        return value

    def log(self, name: str, value: Tensor | float) -> None:
        """Logs a number of the loss that is computed now, as ``loss/LOSS/NAME``; a part, which has no cycle, calls `ibllm_core.interfaces.loss.log`."""
        log(name, value)

    def take_logged(self) -> dict[str, Tensor]:
        """What was logged since this was last asked: name → mean ()."""
        found, self._logged = self._logged, {}
        return {name: torch.stack(values).mean() for name, values in found.items()}

    def whole(self, name: str, represent: Callable[[Cycle], _T]) -> tuple[_T, slice]:
        """What `represent` gives of all items of the whole batch, over micro-batches and ranks, without its graph; and which rows are this cycle's items.

        For what a loss needs to know of other items (a mismatched caption's latent); what it needs their gradients for is a `WholeBatchLoss`.

        Args:
            name: as for `once`.
            represent: a share → tensors (b …), latents and tokens, in tuples, lists or dicts.
        """
        if self._shares is None:
            return cast(_T, tree_map(Tensor.detach, represent(self))), slice(0, len(self))
        together, own = self._shares.gather(name, represent, self)
        return together, own[0]

    # What the data bring.

    @property
    def x(self) -> Tokens:
        """The captions as E_x reads them."""
        return _there(self.batch.x, "captions")

    @property
    def x_out(self) -> Tokens:
        """The captions as D_x writes them."""
        return _there(self.batch.x_out, "captions")

    @property
    def y(self) -> Tensor:
        """(b c h w) the real images."""
        return _there(self.batch.y, "images")

    @property
    def texts(self) -> Tokens:
        """Captions for losses that need no pairs, as E_x reads them: the unpaired ones where the recipe names such, else the pairs'."""
        return self.x if self.batch.unpaired_x is None else self.batch.unpaired_x

    @property
    def images(self) -> Tensor:
        """(b c h w) images for losses that need no pairs: the unpaired ones where the recipe names such, else the pairs'."""
        return self.y if self.batch.unpaired_y is None else self.batch.unpaired_y

    @property
    def question(self) -> Tokens:
        return _there(self.batch.question, "questions")

    @property
    def answer(self) -> Tokens:
        return _there(self.batch.answer, "answers")

    # What the model makes of them.

    @step("text_encoder")
    def z_x(self) -> Latent:
        """E_x(x), of embeddings that a perturbation has shifted where there is one."""
        encoder, shift = cast(TextEncoder, self.model.part("text_encoder")), self.batch.x_shift
        return cast(Latent, encoder(self.x)) if shift is None else encoder.encode(encoder.embed(self.x.ids) + shift, self.x.mask)

    @step("image_decoder")
    def noise(self) -> Tensor:
        """(b k) or (b n k) the noise that y_fake is drawn with."""
        return self._drawer.noise(self.z_x, self.rng("draw"))

    @step("image_decoder")
    def y_fake(self) -> Tensor:
        """(b c h w) D_y(z_x, noise), with its graph; through the codec where the decoder works on latents."""
        if self.model.works_on == "images":
            return self._drawer.draw(self.z_x, self.noise)
        latents = self.latents_fake
        return self.through("image_tokenizer", "y_fake", lambda: self.model.decode_image(latents), latents)

    @step("image_decoder")
    def latents_fake(self) -> Tensor:
        """(b c' h' w') D_y(z_x, noise) of a decoder that works on a codec's latents, with its graph."""
        return self._drawer.draw(self.z_x, self.noise)

    @property
    def drawn(self) -> Tensor:
        """What the decoder's own `draw` gives, with its graph: `y_fake` or `latents_fake`."""
        return self.y_fake if self.model.works_on == "images" else self.latents_fake

    @step("image_encoder")
    def z_y(self) -> Latent:
        """E_y(y)."""
        return cast(Latent, self.model.part("image_encoder")(self.y))

    @step("image_encoder")
    def z_images(self) -> Latent:
        """E_y of the images, unpaired ones where the recipe names such."""
        if self.batch.unpaired_y is None:
            return self.z_y
        return cast(Latent, self.model.part("image_encoder")(self.images))

    @step("image_encoder")
    def z_fake(self) -> Latent:
        """E_y(y_fake)."""
        return cast(Latent, self.model.part("image_encoder")(self.y_fake))

    @step("image_decoder")
    def image_nll(self) -> Tensor:
        """(b) −log p(y|x), the decoder's `nll`. Where that is the likelihood of a drawing it is taken of y_fake, so that the image is drawn once."""
        decoder = self.model.part("image_decoder")
        if isinstance(decoder, DrawingDecoder) and decoder.nll_is_of_a_drawing:
            return decoder.likelihood(self.target, self.drawn)
        return cast(Tensor, decoder(self.target, self.z_x, self.rng("image_nll")))

    @step("image_tokenizer")
    def code(self) -> Tensor:
        """The real images as the codec gives them to the image decoder: ids (b m) or latents (b c' h' w')."""
        return self.model.encode_image(self.y)

    @property
    def target(self) -> Tensor:
        """The real images as the image decoder works on them: `y` or `code`."""
        return self.y if self.model.works_on == "images" else self.code

    @step("image_tokenizer")
    def reconstruction(self) -> Reconstruction:
        """The images (unpaired ones too) through the codec and back."""
        return cast(Reconstruction, self.model.part("image_tokenizer")(self.images))

    @step("text_decoder")
    def text_nll(self) -> Tensor:
        """(b) −log p(x|y)."""
        return cast(Tensor, self.model.part("text_decoder")(self.x_out, self.z_y, self.batch.language))

    @step("text_decoder")
    def cycle_nll(self) -> Tensor:
        """(b) −log p(x|y_fake), the caption read back off the drawn image."""
        return cast(Tensor, self.model.part("text_decoder")(self.x_out, self.z_fake, self.batch.language))

    @step("text_decoder")
    def answer_nll(self) -> Tensor:
        """(b) −log p(answer|y, question)."""
        return cast(Tensor, self.model.part("text_decoder")(self.answer, self.z_y, self.question))

    @step("text_decoder")
    def question_nll(self) -> Tensor:
        """(b) −log p(question|y)."""
        return cast(Tensor, self.model.part("text_decoder")(self.question, self.z_y, asking(len(self), self.model.device)))

    @property
    def _drawer(self) -> DrawingDecoder:
        decoder = self.model.part("image_decoder")
        assert isinstance(decoder, DrawingDecoder), "a loss that needs a drawn image declares image_decoder.differentiable_draw"
        return decoder

    # What losses ask for.

    @property
    def step(self) -> int:
        """The iteration's number in the stage. An iteration in which this is asked for is not captured; `at` gives what a weight is."""
        return self._present.step

    def at(self, weight: Callable[[int], float]) -> float | Tensor:
        """A weight (step → value) in the present iteration; () on the device where the iteration is captured."""
        return self._present.at(weight)

    def image_nll_of(self, y: Tensor, z: Latent, purpose: str) -> Tensor:
        """(b) −log p(y | z) for any images (b c h w) and latents, through the codec where the decoder works on tokens or latents."""
        decoder, rng, target = self.model.part("image_decoder"), self.rng(purpose), self.model.encode_image(y)
        return self.through("image_decoder", "image_nll_of", lambda: cast(Tensor, decoder(target, z, rng)), y, z)

    def latent(self, name: str) -> Latent:
        """The latent that an encoder of the model, a further one (``[model.extra.NAME]``) above all, gives of the batch's captions or images; computed once."""
        encoder = self.model.part(name)
        return self.once(f"latent.{name}", lambda: cast(Latent, encoder(self.x if isinstance(encoder, TextEncoder) else self.y)), name)

    def score(self, y: Tensor, z: Latent, critic: str = "discriminator") -> Tensor:
        """(b) or (b p) a critic's scores in at least float32; it looks at an image once a play, whatever texts it is scored with.

        Args:
            critic: the discriminator's name; that of a further one is ``[model.extra.NAME]``'s.
        """
        judge, key = cast(Discriminator, self.model.part(critic)), (critic, id(y), torch.is_grad_enabled())

        def compute() -> Tensor:
            if key not in self._seen:
                self._seen[key] = y, judge.look(y)  # with the image, so that no other one can have its id
            scores = judge.judge(self._seen[key][1], z)
            return at_least_float32(scores)

        return self.through(critic, "score", compute, y, z)

    def begin_play(self) -> None:
        """Forgets what the critic saw: from one player's turn to the next its weights change."""
        self._seen = {}
        self._passes.clear()

    def value(self, name: str) -> Tensor:
        """The value () of the model's loss `name`, computed once for this batch."""
        loss = self.losses[name]
        assert isinstance(loss, Loss), f"{name} is no loss of the model"

        def compute() -> Tensor:
            if isinstance(loss, WholeBatchLoss):
                if self._shares is not None:
                    return self._shares.compare(name, loss, self)
                together = self.represented(name, loss)
                with self.drawing(f"losses.{name}", "compare"):
                    return loss.compare(together, self.rng("compare"))
            value = loss(self)
            if not loss.composite:
                return self._share(name, value)
            assert isinstance(value, Tensor), f"{name} is composite and gives a sum and its count"
            return value

        if name not in self._values:
            with self.drawing(f"losses.{name}", logged=f"loss/{name}"):
                self._values[name] = self._watch.loss(name, compute)
        return self._values[name]

    def represented(self, name: str, loss: WholeBatchLoss) -> Any:
        """What the loss `name` compares of this batch; its dropout is the same whether this is the whole batch or a share."""

        def compute() -> Any:
            with self.drawing(f"losses.{name}", "represent", f"loss/{name}"):
                return loss.represent(self)

        return self.once(f"losses.{name}.represent", compute)

    def critic_value(self, name: str) -> Tensor:
        """The value () of the critic's loss `name`, computed anew."""
        loss = self.losses[name]
        assert isinstance(loss, CriticLoss | AdversarialLoss), f"{name} is no loss of the critic"
        with self.drawing(f"losses.{name}", logged=f"loss/critic/{name}"):
            return self._watch.loss(name, lambda: self._share(name, loss.critic(self)))

    def _share(self, name: str, value: Value) -> Tensor:
        """A loss's value as this process's share: the mean of all shares is the mean over all items."""
        if self._shares is not None:
            return self._shares.mean(name, value, len(self))
        return value if isinstance(value, Tensor) else ratio(*value)


def ratio(total: Tensor, count: Tensor) -> Tensor:
    """total / count, and 0 where there was nothing to count."""
    return total / count.masked_fill(count == 0, 1)


def _there(found: _T | None, what: str) -> _T:
    if found is None:
        raise UserError(f"it asks for {what}, but the data give none")
    return found
