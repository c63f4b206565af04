"""The other side of test_peer_dalle.py: dalle-pytorch 1.6.6, run by the Python of an environment of its own.

Reads lines ``train`` and ``sample``, answers each with the CPU seconds it took. The first line it writes is the number of its parameters.
"""

import json
import sys
import time
import types

import torch

# Pretrained image tokenizers bring omegaconf, taming-transformers and pytorch-lightning along; none of it is used here.
vae = types.ModuleType("dalle_pytorch.vae")
vae.OpenAIDiscreteVAE = vae.VQGanVAE = type("Absent", (), {})
sys.modules["dalle_pytorch.vae"] = vae

from dalle_pytorch import DALLE, DiscreteVAE  # noqa: E402


def main() -> None:
    sizes = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    tokenizer = DiscreteVAE(image_size=64, num_layers=3, num_tokens=sizes["image_vocabulary"], codebook_dim=8, hidden_dim=8)
    tokenizer.decode = lambda ids: ids  # drawing ends with the tokens, as ours does
    model = DALLE(
        dim=sizes["width"],
        vae=tokenizer,
        num_text_tokens=sizes["text_vocabulary"],
        text_seq_len=sizes["words"],
        depth=sizes["depth"],
        heads=sizes["heads"],
        dim_head=sizes["width"] // sizes["heads"],
    )
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=3e-4)
    text = torch.randint(1, sizes["text_vocabulary"], (sizes["batch"], sizes["words"]))
    ids = torch.randint(sizes["image_vocabulary"], (sizes["batch"], 64))

    def train() -> None:
        model.train()
        loss = model(text.clone(), ids, return_loss=True)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def sample() -> None:
        drawn = model.generate_images(text[: sizes["drawn"]].clone(), cond_scale=3.0, use_cache=True)
        assert drawn.shape == (sizes["drawn"], 64)

    print(sum(parameter.numel() for parameter in trained), flush=True)
    for line in sys.stdin:
        started = time.process_time()
        {"train": train, "sample": sample}[line.strip()]()
        print(time.process_time() - started, flush=True)


if __name__ == "__main__":
    main()
