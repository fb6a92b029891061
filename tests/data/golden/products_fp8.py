"""How far exact arithmetic strays from the golden logits when only rows of products are rounded, as --deterministic off
does on sm_90 (worker/exec/products.c).

    python3 products_fp8.py GOLDEN > products_fp8.json    GOLDEN: the folder with oracle.py and the cases; needs numpy

As cache_fp8.py beside it, whose parts it takes: the oracle in float64; what is rounded are the rows that queries, cache
entries, o_proj and dense down are made of, to e4m3 with one power of two for 128; DRAWS runs more, in which those rows
first move by up to half a bf16 step; the worst of all. Cases with fp8 weights, the others have no such products.
"""

import cache_fp8

CASES = [name for name in cache_fp8.CASES if name.endswith("-fp8")]
ROUNDED = ("q_proj", "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "o_proj", "mlp.down_proj")


class Rounded(cache_fp8.oracle.Oracle):
    """The oracle; rng None: no draw."""

    def __init__(self, config, values, rng):
        super().__init__(config, values)
        self.rng = rng

    def linear(self, x, name):
        if name.endswith(ROUNDED):
            x = x if self.rng is None else x * (1 + self.rng.uniform(-(2**-9), 2**-9, x.shape))
            x = cache_fp8.fp8(x)
        return super().linear(x, name)


if __name__ == "__main__":
    cache_fp8.print_worst(CASES, lambda folder: cache_fp8.stray(folder, Rounded))
