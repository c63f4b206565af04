"""A student learns what a teacher draws and writes. Shapes: b batch, t tokens, c h w image, v vocabulary."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from ibllm.plugin import Context, Cycle, DrawingDecoder, Loss, TextDecoder, Value, dropout_off
from ibllm_objectives.config import DistillConfig, DistillTextConfig


class Distill(Loss):
    """−E log p(ŷ | x), ŷ drawn by the teacher for the text x: the student's likelihood of the teacher's drawing in place of the data's.

    That is knowledge distillation at the level of whole samples (Kim and Rush 2016, section 3.2), for any student and any teacher that draws: one that takes
    many steps is learned by one that takes one. The two share their noise where both draw in one pass from as many numbers, so that the student is told which
    of the teacher's drawings is meant. The teacher's weights get no gradient.
    """

    def __init__(self, config: DistillConfig, context: Context) -> None:
        super().__init__()
        self.config = config

    def forward(self, cycle: Cycle) -> Tensor:
        mean = (
            cycle.image_nll_of(self.drawn(cycle), cycle.z_x, "distill").mean()
            if not self.shares_noise(cycle)
            else self.paired(cycle).mean()
        )
        return mean / self.drawn(cycle)[0].numel()

    def paired(self, cycle: Cycle) -> Tensor:
        """(b) −log p(ŷ | the drawing with the same noise)."""
        student = cast(DrawingDecoder, cycle.model.part("image_decoder"))
        wanted = self.drawn(cycle)
        return cycle.through("image_decoder", "distill", lambda: student.likelihood(wanted, cycle.drawn), wanted)

    def shares_noise(self, cycle: Cycle) -> bool:
        """Whether student and teacher draw pixels in one pass, from noise of one shape that does not depend on the text."""
        student, teacher = (cycle.model.part(name) for name in ("image_decoder", self.config.image_decoder))
        if student is teacher:
            return False  # with the same noise it would learn what it draws already
        if not (isinstance(student, DrawingDecoder) and isinstance(teacher, DrawingDecoder)) or cycle.model.works_on != "images":
            return False
        plain = type(student).noise is DrawingDecoder.noise and type(teacher).noise is DrawingDecoder.noise
        return plain and student.noise_width == teacher.noise_width and student.nll_is_of_a_drawing

    def drawn(self, cycle: Cycle) -> Tensor:
        """(b c h w) the teacher's drawing of each caption, once a batch."""
        encoder, decoder = (cast(Any, cycle.model.part(name)) for name in (self.config.text_encoder, self.config.image_decoder))
        noise = cycle.noise if self.shares_noise(cycle) else None

        @torch.no_grad()
        def draw() -> Tensor:
            with dropout_off(encoder), dropout_off(decoder):
                z = encoder(cycle.x)
                if noise is not None:
                    return cast(Tensor, decoder.draw(z, noise))
                rng = cycle.rng("distill").fold("draw")
                if decoder is cycle.model.part("image_decoder"):
                    return cycle.model.sample_image(z, rng)
                return cast(Tensor, decoder.sample(z, rng))

        name = f"ibllm_objectives.drawn.{self.config.text_encoder}.{self.config.image_decoder}"
        return cycle.once(name, draw, self.config.image_decoder)


class DistillText(Loss):
    """T²·E Σ_t KL(p_teacher(· | x_<t, y) ‖ p_student(· | x_<t, y)) over the captions' places, a token: the teacher's distribution over the next word, softened
    by T, in place of the one word that the data have (Hinton et al. 2015, section 2; word by word as in Kim and Rush 2016, section 3.1)."""

    def __init__(self, config: DistillTextConfig, context: Context) -> None:
        super().__init__()
        self.config = config

    def count(self, cycle: Cycle) -> Tensor:
        return cycle.x_out.mask[:, 1:].sum()

    def forward(self, cycle: Cycle) -> Value:
        t, ids, mask = self.config.temperature, cycle.x_out.ids, cycle.x_out.mask
        student = cast(TextDecoder, cycle.model.part("text_decoder"))
        with torch.no_grad():
            wanted = (self.teacher_logits(cycle) / t).log_softmax(-1)
        logits = cycle.through("text_decoder", "distill_text", lambda: student.logits(ids[:, :-1], mask[:, :-1], cycle.z_y))
        found = (logits.float() / t).log_softmax(-1)
        divergence = (wanted.exp() * (wanted - found)).sum(-1)
        return t**2 * (divergence * mask[:, 1:]).sum(), self.count(cycle)

    def teacher_logits(self, cycle: Cycle) -> Tensor:
        """(b t−1 v) float32."""
        encoder, decoder = (cast(Any, cycle.model.part(name)) for name in (self.config.image_encoder, self.config.text_decoder))

        def look() -> Tensor:
            with dropout_off(encoder), dropout_off(decoder):
                logits: Tensor = decoder.logits(cycle.x_out.ids[:, :-1], cycle.x_out.mask[:, :-1], encoder(cycle.y))
                return logits.float()

        return cycle.through(self.config.text_decoder, "teach", look)
