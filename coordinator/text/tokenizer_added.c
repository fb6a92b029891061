/* coordinator/text/tokenizer_added.c - longest match by narrowing a range of a sorted list, byte by byte. */
#include "coordinator/text/tokenizer_added.h"
#include "base/alloc.h"

#include <assert.h>
#include <stdlib.h>

phx_code phx_added_reserve(phx_added_set *set, size_t n_max, phx_error *err)
{
    set->tokens = phx_alloc(n_max + 1, sizeof(*set->tokens));
    if (!set->tokens)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "%zu added tokens", n_max);
    set->n_max = n_max;
    return PHX_OK;
}

void phx_added_done(phx_added_set *set)
{
    phx_free(set->tokens);
    set->tokens = NULL;
    set->n = 0;
    set->n_max = 0;
}

void phx_added_put(phx_added_set *set, phx_added_token token)
{
    assert(set->n < set->n_max);
    assert(token.content.n > 0);
    set->tokens[set->n++] = token;
}

static int compare(const void *a, const void *b)
{
    const phx_str left = ((const phx_added_token *)a)->content;
    const phx_str right = ((const phx_added_token *)b)->content;
    const int order = memcmp(left.ptr, right.ptr, left.n < right.n ? left.n : right.n);
    return order ? order : (left.n > right.n) - (left.n < right.n);
}

phx_code phx_added_sort(phx_added_set *set, phx_error *err)
{
    if (set->n > 1)
        qsort(set->tokens, set->n, sizeof(*set->tokens), compare);
    for (size_t i = 0; i < set->n; i++) {
        const phx_str content = set->tokens[i].content;
        if (i > 0 && phx_str_eq(content, set->tokens[i - 1].content))
            return PHX_FAIL(err, PHX_ERR_CORRUPT, "added token '%.*s' is listed twice", PHX_STR_ARG(content));
        set->first[(uint8_t)content.ptr[0] + 1]++;
    }
    for (size_t byte = 0; byte < 256; byte++)
        set->first[byte + 1] += set->first[byte];
    return PHX_OK;
}

/* First of [low, high), which share `depth` bytes, whose byte at depth is at least `byte`; a token that ends
 * there sorts before all. */
static size_t lower_bound(const phx_added_set *set, size_t low, size_t high, size_t depth, unsigned byte)
{
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const phx_str content = set->tokens[middle].content;
        if (content.n <= depth || (uint8_t)content.ptr[depth] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const phx_added_token *phx_added_match(const phx_added_set *set, phx_str text)
{
    const phx_added_token *found = NULL;
    if (text.n == 0 || set->n == 0)
        return NULL;
    size_t low = set->first[(uint8_t)text.ptr[0]];
    size_t high = set->first[(uint8_t)text.ptr[0] + 1];
    for (size_t depth = 1; low < high; depth++) {
        if (set->tokens[low].content.n == depth)
            found = &set->tokens[low];
        if (depth == text.n)
            break;
        const unsigned byte = (uint8_t)text.ptr[depth];
        low = lower_bound(set, low, high, depth, byte);
        high = lower_bound(set, low, high, depth, byte + 1);
    }
    return found;
}
