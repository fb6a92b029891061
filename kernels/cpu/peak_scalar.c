/* kernels/cpu/peak_scalar.c - the plain C loops; compiled without vectorisation, which is what they measure.
 */
#include "kernels/cpu/peak.h"

double phx_peak_loop_scalar(int64_t n_rounds)
{
    enum { CHAINS = 12 };
    double acc[CHAINS];
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++)
        acc[i] = (double)i;
    for (int64_t round = 0; round < n_rounds; round++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++)
            acc[i] = acc[i] * 0.5 + 1.0;
    }
    double sum = 0.0;
    for (int i = 0; i < CHAINS; i++)
        sum += acc[i];
    return sum;
}

uint64_t phx_peak_sum_scalar(const void *data, size_t n_bytes)
{
    const uint64_t *words = data;
    uint64_t acc[4] = {0};
    for (size_t i = 0; i + 4 <= n_bytes / sizeof(*words); i += 4) {
        acc[0] += words[i];
        acc[1] += words[i + 1];
        acc[2] += words[i + 2];
        acc[3] += words[i + 3];
    }
    return acc[0] + acc[1] + acc[2] + acc[3];
}
