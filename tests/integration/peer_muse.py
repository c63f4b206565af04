"""The other side of test_peer_muse.py: muse-maskgit-pytorch 0.3.5, run by the Python of an environment of its own.

Reads lines ``train``, answers each with the CPU seconds it took. The first line it writes is the number of its parameters.
"""

import json
import sys
import time
import types
from importlib.machinery import PathFinder
from pathlib import Path

import torch


def stand_in(name: str, **members: object) -> None:
    module = types.ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module


SIZES = json.loads(sys.argv[1])
found = PathFinder.find_spec("muse_maskgit_pytorch")
assert found is not None and found.origin is not None
# Its image tokenizer, its T5 and its trainers bring accelerate, torchvision and transformers along; none of them is used here.
stand_in("muse_maskgit_pytorch", __path__=[str(Path(found.origin).parent)])


class Codes:
    """Its image tokenizer, of which a step on ids asks how many codes there are."""

    codebook_size = SIZES["image_vocabulary"]

    def copy_for_eval(self) -> "Codes":
        return self


stand_in("muse_maskgit_pytorch.vqgan_vae", VQGanVAE=Codes)
stand_in("muse_maskgit_pytorch.t5", t5_encode_text=print, get_encoded_dim=lambda name: SIZES["width"], DEFAULT_T5_NAME="none")
transforms = types.ModuleType("torchvision.transforms")
stand_in("torchvision", transforms=transforms)
sys.modules["torchvision.transforms"] = transforms

from muse_maskgit_pytorch.muse_maskgit_pytorch import MaskGit, MaskGitTransformer  # noqa: E402


def main() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    width, heads = SIZES["width"], SIZES["heads"]
    transformer = MaskGitTransformer(
        num_tokens=SIZES["image_vocabulary"], dim=width, seq_len=64, depth=SIZES["depth"], heads=heads, dim_head=width // heads, ff_mult=4
    )
    model = MaskGit(image_size=64, transformer=transformer, vae=Codes(), cond_drop_prob=0.1)
    words = torch.nn.Embedding(SIZES["text_vocabulary"], width)
    # Its layer for self-conditioning is made and never used where that is off.
    parameters = [*words.parameters(), *(p for name, p in model.named_parameters() if "self_cond" not in name)]
    optimizer = torch.optim.Adam(parameters, lr=3e-4)
    text = torch.randint(1, SIZES["text_vocabulary"], (SIZES["batch"], SIZES["words"]))
    ids = torch.randint(SIZES["image_vocabulary"], (SIZES["batch"], 64))

    def train() -> None:
        model.train()
        loss = model(ids, text_embeds=words(text))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    print(sum(parameter.numel() for parameter in parameters), flush=True)
    for line in sys.stdin:
        started = time.process_time()
        {"train": train}[line.strip()]()
        print(time.process_time() - started, flush=True)


if __name__ == "__main__":
    main()
