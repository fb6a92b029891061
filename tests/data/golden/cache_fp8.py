"""How far exact arithmetic strays from the golden logits when only the cache is rounded, as --cache fp8 does.

    python3 cache_fp8.py GOLDEN > cache_fp8.json    GOLDEN: the folder with oracle.py and the cases; needs numpy

The oracle of the golden models in float64; what is rounded: latents to e4m3 with one power of two for 128 (the oracle's
own quantiser), rotary and index keys to bf16. A rounding decides near-ties of experts by chance, so one run says little:
there are DRAWS more, in which latents first move by up to half a bf16 step, as after any bf16 computation. Figures
are the worst of all: largest mean and median of KL(golden || run) in nats, smallest top-1 agreement.
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, sys.argv[1])
import oracle  # noqa: E402
from tools import formats  # noqa: E402

CASES = """deepseek-v3-bf16 deepseek-v3-fp8 deepseek-v3-qdirect deepseek-v32-bf16 deepseek-v32-fp8 deepseek-v32-long
    kimi-k2-fp8 kimi-k25-int4 glm5-bf16 glm5-fp8 glm52-bf16 glm4-moe-lite-bf16""".split()
DRAWS = 16
DTYPES = {"F32": np.float32, "I64": np.int64, "I32": np.int32, "BF16": np.uint16, "F8_E4M3": np.uint8}


def load(path):
    raw = path.read_bytes()
    first = 8 + struct.unpack("<Q", raw[:8])[0]
    out = {}
    for name, tensor in json.loads(raw[8:first]).items():
        if name != "__metadata__":
            begin, end = tensor["data_offsets"]
            values = np.frombuffer(raw[first + begin : first + end], DTYPES[tensor["dtype"]])
            values = formats.bf16_value(values) if tensor["dtype"] == "BF16" else values
            out[name] = values.reshape(tensor["shape"])
    return out


def weights(folder):
    stored = {}
    for path in sorted(folder.glob("model*.safetensors")):
        stored |= load(path)
    for name in [n for n in stored if n + "_scale_inv" in stored]:
        stored[name] = formats.fp8_block_decode(stored[name], stored.pop(name + "_scale_inv"))
    for name in [n.removesuffix("_packed") for n in stored if n.endswith(".weight_packed")]:
        packed, scales = stored.pop(name + "_packed").view(np.uint32), formats.bf16_bits(stored.pop(name + "_scale"))
        stored[name] = formats.int4_decode(packed, scales)
    return {name.removeprefix("language_model."): values for name, values in stored.items()}


def bf16(x):
    return formats.bf16_value(formats.bf16_bits(x)).astype(x.dtype)


def fp8(x):
    groups = [formats.fp8_vector_quant(x[:, at : at + 128]) for at in range(0, x.shape[1], 128)]
    return np.concatenate([codes * scale for codes, scale in groups], 1).astype(x.dtype)


class Rounded(oracle.Oracle):
    """The oracle; rng None: no draw. The functions that make entries are wrapped; only entries are matrices there."""

    def __init__(self, config, values, rng):
        super().__init__(config, values)
        self.rng = rng
        self.latent_weights = {id(v) for k, v in self.w.items() if k.endswith("kv_a_layernorm.weight")}

    def forward(self, input_ids):
        plain = {name: getattr(oracle, name) for name in ("rms_norm", "layer_norm", "rotate_interleaved", "rotate_half")}

        def rms_norm(x, weight, eps):
            y = plain["rms_norm"](x, weight, eps)
            if id(weight) not in self.latent_weights:
                return y
            return fp8(y if self.rng is None else y * (1 + self.rng.uniform(-(2**-9), 2**-9, y.shape)))

        def layer_norm(x, *args):  # of an index key; its first numbers are rotated
            y, n = plain["layer_norm"](x, *args), self.c["qk_rope_head_dim"]
            return np.concatenate([y[:, :n], bf16(y[:, n:])], 1)

        def rotated(name):
            def rotate(x, *args):
                y = plain[name](x, *args)
                return bf16(y) if x.ndim == 2 else y

            return rotate

        wrapped = {"rms_norm": rms_norm, "layer_norm": layer_norm} | {n: rotated(n) for n in plain if "rotate" in n}
        vars(oracle).update(wrapped)
        try:
            return super().forward(input_ids)
        finally:
            vars(oracle).update(plain)


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def apart(expected, logits):
    """Of logits [rows, vocabulary]: mean and median of KL(expected || logits), top-1 agreement."""
    wanted, got = log_softmax(expected), log_softmax(logits)
    kl = (np.exp(wanted) * (wanted - got)).sum(-1)
    return [kl.mean(), np.median(kl), (logits.argmax(-1) == expected.argmax(-1)).mean()]


def stray(folder, rounded):
    """[draws + 1, 3]: how far each run of the class `rounded` is from the golden logits."""
    golden = load(folder / "golden.safetensors")
    config, values = json.loads((folder / "config.json").read_text()), weights(folder)
    config = config.get("text_config", config)
    expected, rows = golden["logits"].astype(np.float64), []
    for draw in range(DRAWS + 1):
        rng = np.random.default_rng(draw) if draw else None
        rows.append(apart(expected, rounded(config, values, rng).forward(golden["input_ids"]).logits))
    return np.array(rows)


def print_worst(cases, stray_of):
    """stray_of(folder): [runs, 3], the first without a draw."""
    figures = {}
    for name in cases:
        rows = stray_of(Path(sys.argv[1]) / name)
        print(name, rows[0].round(5), rows.mean(0).round(5), file=sys.stderr, flush=True)
        worst = rows[:, 0].max(), rows[:, 1].max(), rows[:, 2].min()
        figures[name] = dict(zip(("kl_mean", "kl_median", "top1"), (float(f"{x:.3g}") for x in worst)))
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    print_worst(CASES, lambda folder: stray(folder, Rounded))
