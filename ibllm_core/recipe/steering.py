"""What may follow from what is seen of a stage while it trains. Torch-free."""

from __future__ import annotations

import attrs

from ..host.options import Config, option


@attrs.frozen(kw_only=True)
class Plateau(Config):
    """``plateau = { factor = 0.5, patience = 2 }``: lower the learning rate when the watched figure stops improving."""

    factor: float = option(0.5, help="what the rate is multiplied with", gt=0, lt=1, live="training")
    patience: int = option(2, help="validations without improvement before it is", ge=1, live="training")


@attrs.frozen(kw_only=True)
class Balance(Config):
    """``balance = { … }``: λ follows the validation, up while image → text lags behind text → image, down otherwise."""

    loss: str = option("joint", help="name of the composite loss whose λ is changed")
    text: str = option(help="figure of the text module (text → image), higher is better")
    image: str = option(help="figure of the image module (image → text), higher is better")
    rate: float = option(0.5, help="log-change of λ for a full point of difference", gt=0, live="training")
    limit: float = option(10.0, help="λ stays within this factor of its start", gt=1, live="training")


@attrs.frozen(kw_only=True)
class Watched(Config):
    """``watch = { action = "roll_back" }``: who looks for what makes adversarial training fail, and what follows where it is seen."""

    action: str = option("warn", help="warn, go back to a good checkpoint, or stop", choices=("warn", "roll_back", "stop"))
    factor: float = option(0.5, help="what the learning rate is multiplied with where it goes back", gt=0, le=1)
    most: int = option(3, help="times that a stage goes back before it stops", ge=1)
    patience: int = option(5, help="rows of figures, one after the other, that have to show a symptom", ge=1)
    captions: int = option(8, help="captions of the validation split that are drawn for each row, to measure drawings; 0 for none", ge=0)
    samples: int = option(3, help="drawings of each of these captions", ge=2)
