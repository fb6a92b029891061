/* tests/kernels/routing.c - made-up routings of tokens to experts. */
#include "tests/kernels/routing.h"

#define N_EXPERTS 8
#define N_USED    3
#define UNUSED    2 /* an expert that no token chooses */

/* Which experts a token uses, as a bit mask. */
static uint32_t mask_of(check *c, check_routing_kind kind)
{
    if (kind == CHECK_ROUTING_DENSE)
        return 1u;
    if (kind == CHECK_ROUTING_ONE)
        return 1u << 5;
    uint32_t mask = 0;
    for (int n = 0; n < N_USED;) {
        const uint32_t e = phx_rng_below(&c->rng, N_EXPERTS);
        if (e == UNUSED || (mask >> e & 1u) != 0)
            continue;
        mask |= 1u << e;
        n++;
    }
    return mask;
}

/* token_first and token_entries from rows: experts ascending, because entries are. */
static void index_tokens(check *c, check_routing *routing, int64_t n_tokens)
{
    const phx_expert_rows *rows = &routing->rows;
    const int64_t n_entries = rows->first[rows->n_experts];
    routing->token_first = check_mem(c, n_tokens + 1, sizeof(int64_t));
    routing->token_entries = check_mem(c, n_entries, sizeof(int32_t));
    int64_t n = 0;
    for (int64_t t = 0; t < n_tokens; t++) {
        routing->token_first[t] = n;
        for (int64_t j = 0; j < n_entries; j++) {
            if ((rows->token ? rows->token[j] : j) == t)
                routing->token_entries[n++] = (int32_t)j;
        }
    }
    routing->token_first[n_tokens] = n;
}

check_routing check_routing_make(check *c, check_routing_kind kind, int64_t n_tokens)
{
    check_routing routing = {0};
    const int64_t n_experts = kind == CHECK_ROUTING_DENSE ? 1 : N_EXPERTS;
    uint32_t *masks = check_mem(c, n_tokens, sizeof(*masks));
    for (int64_t t = 0; t < n_tokens; t++)
        masks[t] = mask_of(c, kind);
    int64_t *first = check_mem(c, n_experts + 1, sizeof(*first));
    int32_t *token = check_mem(c, n_tokens * N_USED, sizeof(*token));
    float *weight = check_mem(c, n_tokens * N_USED, sizeof(*weight));
    int64_t n = 0;
    for (int64_t e = 0; e < n_experts; e++) {
        first[e] = n;
        for (int64_t t = 0; t < n_tokens; t++) {
            if ((masks[t] >> e & 1u) == 0)
                continue;
            token[n] = (int32_t)t;
            weight[n++] = 2.5f * phx_rng_unit(phx_rng_u64(&c->rng));
        }
    }
    first[n_experts] = n;
    const bool dense = kind == CHECK_ROUTING_DENSE;
    routing.rows = (phx_expert_rows){n_experts, first, dense ? NULL : token, dense ? NULL : weight};
    index_tokens(c, &routing, n_tokens);
    return routing;
}

check_routing check_routing_part(check *c, const check_routing *all, int64_t n_tokens, int64_t first,
                                 int64_t end)
{
    check_routing part = {0};
    int64_t *part_first = check_mem(c, end - first + 1, sizeof(*part_first));
    const int64_t base = all->rows.first[first];
    for (int64_t e = first; e <= end; e++)
        part_first[e - first] = all->rows.first[e] - base;
    part.rows = (phx_expert_rows){end - first, part_first, all->rows.token ? all->rows.token + base : NULL,
                                  all->rows.weight ? all->rows.weight + base : NULL};
    index_tokens(c, &part, n_tokens);
    return part;
}
