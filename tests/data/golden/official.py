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
from pathlib import Path

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
    """[draws + 1, 3]: mean and median of KL, top-1 agreement."""
    golden = cache_fp8.load(folder / "golden.safetensors")
    config, values = json.loads((folder / "config.json").read_text()), cache_fp8.weights(folder)
    exact, rows = oracle.Oracle(config, values, OPTIONS).forward(golden["input_ids"]).logits, []
    if "logits_fp8indexer" in golden:
        assert np.abs(exact - golden["logits_fp8indexer"]).max() < ATOL, folder
    expected = cache_fp8.log_softmax(exact)
    for draw in range(DRAWS + 1):
        logits = Rounded(config, values, np.random.default_rng(draw) if draw else None).forward(golden["input_ids"]).logits
        kl = (np.exp(expected) * (expected - cache_fp8.log_softmax(logits))).sum(-1)
        rows.append([kl.mean(), np.median(kl), (logits.argmax(-1) == exact.argmax(-1)).mean()])
    return np.array(rows)


def main():
    figures = {}
    for name in CASES:
        rows = stray(Path(sys.argv[1]) / name)
        print(name, rows[0].round(5), rows.mean(0).round(5), file=sys.stderr, flush=True)
        worst = rows[:, 0].max(), rows[:, 1].max(), rows[:, 2].min()
        figures[name] = dict(zip(("kl_mean", "kl_median", "top1"), (float(f"{x:.3g}") for x in worst)))
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
