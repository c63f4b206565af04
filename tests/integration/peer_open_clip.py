"""The other side of test_peer_open_clip.py: open_clip 3.3.0, run by the Python of an environment of its own.

Reads lines ``train``, answers each with the CPU seconds it took. The first line it writes is the number of its parameters.
"""

import json
import sys
import time

import torch
from open_clip.loss import ClipLoss
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg


def main() -> None:
    sizes = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    width, heads, depth = sizes["width"], sizes["heads"], sizes["depth"]
    model = CLIP(
        embed_dim=sizes["common"],
        vision_cfg=CLIPVisionCfg(layers=depth, width=width, head_width=width // heads, patch_size=sizes["patch"], image_size=sizes["side"]),
        text_cfg=CLIPTextCfg(context_length=sizes["words"], vocab_size=sizes["vocabulary"], width=width, heads=heads, layers=depth),
    )
    loss = ClipLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    text = torch.randint(4, sizes["vocabulary"] - 1, (sizes["batch"], sizes["words"]))
    text[:, -1] = sizes["vocabulary"] - 1  # the highest id is the end of a text
    image = torch.randn(sizes["batch"], 3, sizes["side"], sizes["side"])

    def train() -> None:
        model.train()
        value = loss(*model(image, text))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, 4.6052)

    print(sum(parameter.numel() for parameter in model.parameters()), flush=True)
    for line in sys.stdin:
        started = time.process_time()
        {"train": train}[line.strip()]()
        print(time.process_time() - started, flush=True)


if __name__ == "__main__":
    main()
