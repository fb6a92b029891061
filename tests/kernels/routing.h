/* tests/kernels/routing.h - made-up routings of tokens to experts, in the form the ops take. */
#ifndef PHX_TESTS_KERNELS_ROUTING_H
#define PHX_TESTS_KERNELS_ROUTING_H

#include "tests/kernels/check.h"

typedef enum check_routing_kind {
    CHECK_ROUTING_MIXED, /* 8 experts, 3 per token, one of them never chosen */
    CHECK_ROUTING_ONE,   /* 8 experts, all tokens to expert 5 */
    CHECK_ROUTING_DENSE, /* 1 expert, no token list, no weights */
    CHECK_ROUTING_COUNT,
} check_routing_kind;

typedef struct check_routing {
    phx_expert_rows rows;
    int64_t *token_first;   /* [n_tokens + 1] */
    int32_t *token_entries; /* [entries] */
} check_routing;

check_routing check_routing_make(check *c, check_routing_kind kind, int64_t n_tokens);

/* The entries of experts [first, end) alone, renumbered from 0. */
check_routing check_routing_part(check *c, const check_routing *all, int64_t n_tokens, int64_t first,
                                 int64_t end);

#endif
