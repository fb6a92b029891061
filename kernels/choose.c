/* kernels/choose.c - which token a row takes, given its tokens in order. */
#include "kernels/choose.h"

#include <assert.h>

#include "base/rng.h"

/* Gumbel noise, keyed so that it depends on nothing but the request and the position. */
static float noise_of(const uint64_t *noise, int32_t id)
{
    const uint64_t bits = phx_rng_key(noise[0], noise[1], noise[2], (uint64_t)id);
    return -phx_logf(-phx_logf(phx_rng_unit(bits)));
}

static float mass_of(const phx_draw *draw, phx_candidate c)
{
    return phx_expf(c.logit * draw->inv_temperature - draw->lse_tempered);
}

/* The mass within which top_p counts: what top_k keeps, or all. */
static phx_order_state kept_mass(const phx_draw *draw, float *ret_mass)
{
    float mass = 0;
    phx_candidate c = {-1, 0};
    phx_order_state state = PHX_ORDER_HAS;
    if (draw->row->top_k == 0 || draw->row->top_p >= 1) {
        *ret_mass = 1;
        return PHX_ORDER_HAS;
    }
    for (uint32_t i = 0; i < draw->row->top_k; i++) {
        state = draw->at(draw->order, i, &c);
        if (state != PHX_ORDER_HAS)
            break;
        mass += mass_of(draw, c);
    }
    *ret_mass = mass;
    return state;
}

static phx_choice_state draw_filtered(const phx_draw *draw, phx_candidate *ret_token)
{
    const phx_sample_row *row = draw->row;
    phx_candidate c = {-1, 0}, best = {-1, 0};
    float all = 1, mass = 0, best_value = 0, p_max = 0;
    if (kept_mass(draw, &all) == PHX_ORDER_BEYOND)
        return PHX_CHOICE_BEYOND;
    for (uint32_t i = 0; row->top_k == 0 || i < row->top_k; i++) {
        const phx_order_state state = draw->at(draw->order, i, &c);
        if (state == PHX_ORDER_BEYOND)
            return PHX_CHOICE_BEYOND;
        const float p = state == PHX_ORDER_HAS ? mass_of(draw, c) : 0;
        p_max = i == 0 ? p : p_max;
        if (state == PHX_ORDER_END || (i > 0 && p < row->min_p * p_max))
            break;
        const float value = c.logit * draw->inv_temperature + noise_of(draw->noise, c.id);
        if (best.id < 0 || value > best_value) {
            best = c;
            best_value = value;
        }
        mass += p;
        if (row->top_p < 1 && mass >= row->top_p * all)
            break;
    }
    *ret_token = best;
    return PHX_CHOICE_MADE;
}

phx_choice_state phx_draw_token(const phx_draw *draw, phx_candidate *ret_token)
{
    if (phx_is_unfiltered(draw->row)) {
        assert(draw->noisy.id >= 0);
        *ret_token = draw->noisy;
        return PHX_CHOICE_MADE;
    }
    if (draw->row->temperature > 0)
        return draw_filtered(draw, ret_token);
    return draw->at(draw->order, 0, ret_token) == PHX_ORDER_HAS ? PHX_CHOICE_MADE : PHX_CHOICE_BEYOND;
}
