"""How far a reference with the FP8 indexer strays from itself when its activations are bf16, as in profile official.

    python3 official.py GOLDEN > official.json      GOLDEN: the folder with oracle.py and the cases; needs numpy

The oracle of the golden models in float64, with Hadamard and the FP8 indexer. Expected is its exact run (where a case has
`logits_fp8indexer` they must agree), compared are runs in which every norm, product and rotation gives bf16; router, head
weights of the indexer, scores, softmax, residual stream and logits stay wide. A rounding decides near-ties of keys and
experts by chance, so one run says little: there are DRAWS more, in which a result first moves by up to half a bf16 step.
Figures are the worst of all: largest mean and median of KL(exact || rounded) in nats, smallest top-1 agreement.
"""

import json
import sys

import numpy as np

sys.path.insert(0, sys.argv[1])
import cache_fp8  # noqa: E402
import oracle  # noqa: E402

CASES = "deepseek-v32-bf16 deepseek-v32-fp8 deepseek-v32-long glm5-bf16 glm5-fp8 glm52-bf16".split()
DRAWS = 16
ATOL = 1e-4  # of logits: the golden run is float32
OPTIONS = oracle.Options(hadamard=True, fp8_index=True)
WIDE = ("mlp.gate", "indexer.weights_proj")


class Rounded(oracle.Oracle):
    """The oracle with results in bf16; rng None: no draw."""

    def __init__(self, config, values, rng):
        super().__init__(config, values, OPTIONS)
        self.rng = rng

    def rounded(self, y):
        return cache_fp8.bf16(y if self.rng is None else y * (1 + self.rng.uniform(-(2**-9), 2**-9, y.shape)))

    def linear(self, x, name):
        y = super().linear(x, name)
        return y if name.endswith(WIDE) else self.rounded(y)

    def forward(self, input_ids):
        names = "rms_norm", "layer_norm", "rotate_interleaved", "rotate_half"
        plain = {name: getattr(oracle, name) for name in names}
        vars(oracle).update({n: lambda *args, f=f: self.rounded(f(*args)) for n, f in plain.items()})
        try:
            return super().forward(input_ids)
        finally:
            vars(oracle).update(plain)


def stray(folder):
    """[draws + 1, 3]: how far each run in bf16 is from the exact one."""
    golden = cache_fp8.load(folder / "golden.safetensors")
    config, values = json.loads((folder / "config.json").read_text()), cache_fp8.weights(folder)
    ids = golden["input_ids"]
    exact, rows = oracle.Oracle(config, values, OPTIONS).forward(ids).logits, []
    if "logits_fp8indexer" in golden:
        assert np.abs(exact - golden["logits_fp8indexer"]).max() < ATOL, folder
    for draw in range(DRAWS + 1):
        rng = np.random.default_rng(draw) if draw else None
        rows.append(cache_fp8.apart(exact, Rounded(config, values, rng).forward(ids).logits))
    return np.array(rows)


if __name__ == "__main__":
    cache_fp8.print_worst(CASES, stray)
