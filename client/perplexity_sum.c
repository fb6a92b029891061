/* client/perplexity_sum.c - the arithmetic of perplexity.h. */
#include "client/perplexity.h"

#include <math.h>

phx_code phx_perplexity_sum(const float *logits, uint32_t n_vocab, const uint32_t *ids, uint32_t n,
                            double *ret_sum, phx_error *err)
{
    double all = 0;
    for (uint32_t t = 0; t + 1 < n; t++) {
        const float *row = logits + (size_t)t * n_vocab;
        const uint32_t next = ids[t + 1];
        double largest = -INFINITY;
        double sum = 0;
        if (next >= n_vocab)
            return PHX_FAIL(err, PHX_ERR_CORRUPT, "token id %u is not below %u logits", next, n_vocab);
        for (uint32_t v = 0; v < n_vocab; v++)
            largest = fmax(largest, (double)row[v]);
        for (uint32_t v = 0; v < n_vocab; v++)
            sum += exp((double)row[v] - largest);
        const double surprise = log(sum) + largest - (double)row[next];
        if (!isfinite(surprise))
            return PHX_FAIL(err, PHX_ERR_CORRUPT, "logits of row %u are not all finite", t);
        all += surprise;
    }
    *ret_sum = all;
    return PHX_OK;
}
