"""Every perturbation keeps its contract."""

from __future__ import annotations

from ibllm_testing import PerturbationSuite, cover

_ALL_ALIKE = "it changes all items of a set alike, which it says to a stage"
_TEXTS = {
    "test_it_gives_the_same_items": "a changed text may have other numbers of tokens",
    "test_training_waits_for_no_device": "a text is read and written on the host",
}
_OF_STAGES = set(vars(PerturbationSuite)) - {"test_it_is_a_perturbation"}
#: Component (or component/variant) → what its class says.
PRESETS: dict[str, dict[str, object]] = {
    "pgd": {"options": {"steps": 2, "restarts": 2, "share": 0.5}},
    "pgd/text": {"options": {"steps": 2, "of": "text", "against": "drawing", "norm": "l2", "epsilon": 1.0}},
    "pgd/cycle": {"options": {"steps": 2, "of": "text", "against": "cycle", "random_start": False}},
    "fgsm/answers": {"options": {"against": "answers"}},
    "fgsm/agreement": {"options": {"against": "agreement", "space": "space", "replace": False}},
    "apgd": {"options": {"steps": 4}},
    "apgd/latent": {"options": {"steps": 4, "against": "latent", "norm": "l2"}},
    "square": {"options": {"queries": 6}},
    **{
        name: {"options": options, "excuses": _TEXTS}
        for name, options in {"typos": {"against": "drawing"}, "words": {"classes": [["a", "te", "it"]]}, "neighbours": {}}.items()
    },
    "universal": {
        "excuses": dict.fromkeys((name for name in dir(PerturbationSuite) if name.startswith("test_") and name in _OF_STAGES), _ALL_ALIKE)
    },
}

globals().update(cover(PerturbationSuite, "ibllm", PRESETS))
