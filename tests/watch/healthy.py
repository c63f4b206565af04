"""Twenty trainings that go well: the usual losses with their penalties against the usual critics. A watch has nothing to say of them."""

from __future__ import annotations

from collections.abc import Mapping

#: Loss, with the penalty that belongs to it → overrides.
LOSSES: Mapping[str, tuple[str, ...]] = {
    "relativistic": (),
    "hinge": (
        'losses.adversarial={use="hinge", mismatched=0.5}',
        'losses.penalty={use="matching_aware_penalty"}',
    ),
    "non_saturating": (
        'losses.adversarial={use="non_saturating", mismatched=0.5}',
        'losses.penalty={use="gradient_penalty", gamma=2.0, at=["real"]}',
    ),
    "wgan_gp": ('losses.adversarial={use="wgan_gp", mismatched=0.25}', "losses.penalty=false"),
}
#: Critic → override.
CRITICS: Mapping[str, str] = {
    "dcgan": 'model.discriminator={use="dcgan", channels=[8, 16], width=8}',
    "matching_aware": 'model.discriminator={use="matching_aware", channels=[8, 16], width=8}',
    "projection": 'model.discriminator={use="projection", channels=[8, 16]}',
    "r3gan": 'model.discriminator={use="r3gan", channels=[8, 16], width=8}',
    "patchgan": 'model.discriminator={use="patchgan", channels=[8, 16], width=8}',
}
#: Name → overrides of gan.toml.
RUNS: Mapping[str, tuple[str, ...]] = {
    f"{loss}, {critic}": (*overrides, critics, f"seed={number}")
    for loss, overrides in LOSSES.items()
    for number, (critic, critics) in enumerate(CRITICS.items())
}
