/* proto/step_plan.c - is a step plan one that a rank may run? */
#include "proto/step_plan.h"

#include <math.h>

#include "proto/codec_sampling.h"
#include "proto/limits.h"

/* Which slots a list has named already. */
typedef struct slot_set {
    uint64_t bits[PHX_SLOTS_MAX / 64];
} slot_set;

#define ROW_FLAGS ((uint32_t)(PHX_ROW_FROM_SLOT | PHX_ROW_SAMPLE | PHX_ROW_CAPTURE | PHX_ROW_CLOSE))

static phx_code check_sizes(const phx_step_plan *plan, const phx_step_limits *limits, phx_error *err);
static phx_code check_open(const phx_step_plan *plan, const phx_slot_open *open,
                           const phx_step_limits *limits, phx_error *err);
static phx_code check_row(const phx_step_plan *plan, const phx_step_row *row, const phx_step_limits *limits,
                          phx_error *err);
static phx_code name_slot(slot_set *set, uint32_t slot, const char *list, uint32_t n_slots, phx_error *err);
static bool in_range(float value, float min, float max);

phx_code phx_step_plan_check(const phx_step_plan *plan, const phx_step_limits *limits, phx_error *err)
{
    slot_set opened = {0}, closed = {0}, used = {0};
    uint64_t n_row_tokens = 0;
    phx_code rc = check_sizes(plan, limits, err);
    for (uint32_t i = 0; rc == PHX_OK && i < plan->n_closes; i++)
        rc = name_slot(&closed, plan->closes[i], "closes", limits->n_slots, err);
    for (uint32_t i = 0; rc == PHX_OK && i < plan->n_opens; i++) {
        rc = name_slot(&opened, plan->opens[i].slot, "opens", limits->n_slots, err);
        if (rc == PHX_OK)
            rc = check_open(plan, &plan->opens[i], limits, err);
    }
    for (uint32_t i = 0; rc == PHX_OK && i < plan->n_rows; i++) {
        rc = name_slot(&used, plan->rows[i].slot, "rows", limits->n_slots, err);
        if (rc == PHX_OK)
            rc = check_row(plan, &plan->rows[i], limits, err);
        n_row_tokens += plan->rows[i].n_tokens;
    }
    if (rc == PHX_OK && n_row_tokens > limits->n_step_tokens)
        rc = PHX_FAIL(err, PHX_ERR_TOO_LONG, "step of %llu tokens, the limit is %u",
                      (unsigned long long)n_row_tokens, limits->n_step_tokens);
    for (uint32_t i = 0; rc == PHX_OK && i < plan->n_tokens; i++)
        if (plan->tokens[i] >= limits->n_vocab)
            rc = PHX_FAIL(err, PHX_ERR_INVALID, "token id %u, the vocabulary has %u", plan->tokens[i],
                          limits->n_vocab);
    for (uint32_t i = 0; rc == PHX_OK && i < plan->n_blocks; i++)
        if (plan->blocks[i] >= limits->n_blocks)
            rc = PHX_FAIL(err, PHX_ERR_INVALID, "block %u, the pool has %u", plan->blocks[i],
                          limits->n_blocks);
    return rc;
}

static phx_code check_sizes(const phx_step_plan *plan, const phx_step_limits *limits, phx_error *err)
{
    if (limits->n_slots > PHX_SLOTS_MAX)
        return PHX_FAIL(err, PHX_ERR_INVALID, "%u slots, at most %u can run together", limits->n_slots,
                        PHX_SLOTS_MAX);
    if (limits->n_drafts > PHX_DRAFTS_MAX)
        return PHX_FAIL(err, PHX_ERR_INVALID, "%u drafts, at most %u can run ahead", limits->n_drafts,
                        PHX_DRAFTS_MAX);
    if (plan->step == 0)
        return PHX_FAIL(err, PHX_ERR_INVALID, "step 0: steps count from 1");
    if ((plan->capture & ~(uint32_t)PHX_CAPTURE_ALL) != 0)
        return PHX_FAIL(err, PHX_ERR_INVALID, "capture mask 0x%x has unknown bits", plan->capture);
    if (plan->n_tokens > PHX_STEP_IDS_MAX)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "step plan with %u token ids, the limit is %u", plan->n_tokens,
                        PHX_STEP_IDS_MAX);
    if (plan->n_blocks > PHX_STEP_BLOCKS_MAX)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "step plan with %u blocks, the limit is %u", plan->n_blocks,
                        PHX_STEP_BLOCKS_MAX);
    return PHX_OK;
}

/* Each list names a slot once, so lists longer than n_slots fail here too. */
static phx_code name_slot(slot_set *set, uint32_t slot, const char *list, uint32_t n_slots, phx_error *err)
{
    if (slot >= n_slots)
        return PHX_FAIL(err, PHX_ERR_INVALID, "%s: slot %u of %u", list, slot, n_slots);
    const uint64_t bit = (uint64_t)1 << (slot % 64);
    if (set->bits[slot / 64] & bit)
        return PHX_FAIL(err, PHX_ERR_INVALID, "%s: slot %u is named twice", list, slot);
    set->bits[slot / 64] |= bit;
    return PHX_OK;
}

static phx_code check_open(const phx_step_plan *plan, const phx_slot_open *open,
                           const phx_step_limits *limits, phx_error *err)
{
    if (open->n_reused > limits->n_context || open->n_prompt > limits->n_context)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG,
                        "slot %u opens with %u reused of %u prompt tokens, the context is %u", open->slot,
                        open->n_reused, open->n_prompt, limits->n_context);
    if (open->n_reused_ids != 0 && open->n_reused_ids != open->n_reused)
        return PHX_FAIL(err, PHX_ERR_INVALID, "slot %u opens with %u ids for %u reused tokens", open->slot,
                        open->n_reused_ids, open->n_reused);
    if (open->n_reused_ids != 0 &&
        (open->n_reused_ids > plan->n_tokens || open->reused_first > plan->n_tokens - open->n_reused_ids))
        return PHX_FAIL(err, PHX_ERR_INVALID, "slot %u: reused ids %u + %u of %u", open->slot,
                        open->reused_first, open->n_reused_ids, plan->n_tokens);
    const phx_sampling *sampling = &open->sampling;
    if (sampling->n_bias != 0 && (!sampling->bias_ids || !sampling->bias))
        return PHX_FAIL(err, PHX_ERR_INVALID, "slot %u: bias without its arrays", open->slot);
    const phx_code rc = phx_sampling_check(sampling, err);
    if (rc != PHX_OK)
        return rc;
    for (uint32_t i = 0; i < sampling->n_bias; i++)
        if (sampling->bias_ids[i] >= limits->n_vocab)
            return PHX_FAIL(err, PHX_ERR_INVALID, "bias of token id %u, the vocabulary has %u",
                            sampling->bias_ids[i], limits->n_vocab);
    return PHX_OK;
}

static phx_code check_row(const phx_step_plan *plan, const phx_step_row *row, const phx_step_limits *limits,
                          phx_error *err)
{
    if ((row->flags & ~ROW_FLAGS) != 0)
        return PHX_FAIL(err, PHX_ERR_INVALID, "row of slot %u: unknown flags 0x%x", row->slot, row->flags);
    if ((row->flags & PHX_ROW_CAPTURE) && plan->capture == 0)
        return PHX_FAIL(err, PHX_ERR_INVALID, "row of slot %u captures, but the plan's mask is empty",
                        row->slot);
    if (row->n_tokens == 0 || row->n_tokens > limits->n_context)
        return PHX_FAIL(err, PHX_ERR_INVALID, "row of slot %u has %u tokens, it needs 1 to %u", row->slot,
                        row->n_tokens, limits->n_context);
    if ((row->flags & PHX_ROW_FROM_SLOT) && row->n_tokens > 1 + limits->n_drafts)
        return PHX_FAIL(err, PHX_ERR_INVALID, "row of slot %u takes %u tokens from its slot, not one to %u",
                        row->slot, row->n_tokens, 1 + limits->n_drafts);
    if (row->n_drafts > (row->flags & PHX_ROW_SAMPLE ? limits->n_drafts : 0))
        return PHX_FAIL(err, PHX_ERR_INVALID, "row of slot %u asks for %u drafts, the limit is %u", row->slot,
                        row->n_drafts, row->flags & PHX_ROW_SAMPLE ? limits->n_drafts : 0);
    if (!(row->flags & PHX_ROW_FROM_SLOT) &&
        (row->n_tokens > plan->n_tokens || row->token_first > plan->n_tokens - row->n_tokens))
        return PHX_FAIL(err, PHX_ERR_INVALID, "row of slot %u: tokens %u + %u of %u", row->slot,
                        row->token_first, row->n_tokens, plan->n_tokens);
    if (row->n_blocks != 0 &&
        (row->n_blocks > plan->n_blocks || row->block_first > plan->n_blocks - row->n_blocks))
        return PHX_FAIL(err, PHX_ERR_INVALID, "row of slot %u: blocks %u + %u of %u", row->slot,
                        row->block_first, row->n_blocks, plan->n_blocks);
    return PHX_OK;
}

phx_code phx_sampling_check(const phx_sampling *sampling, phx_error *err)
{
    const struct {
        const char *name;
        float value, min, max;
    } numbers[] = {
        {"temperature", sampling->temperature, 0, PHX_TEMPERATURE_MAX},
        {"min_p", sampling->min_p, 0, 1},
        {"presence_penalty", sampling->presence_penalty, -PHX_PENALTY_ABS_MAX, PHX_PENALTY_ABS_MAX},
        {"frequency_penalty", sampling->frequency_penalty, -PHX_PENALTY_ABS_MAX, PHX_PENALTY_ABS_MAX},
        {"top_p", sampling->top_p, 0, 1},
        {"repetition_penalty", sampling->repetition_penalty, 0, PHX_REPETITION_MAX},
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (!in_range(numbers[i].value, numbers[i].min, numbers[i].max))
            return PHX_FAIL(err, PHX_ERR_INVALID, "%s %g is outside %g to %g", numbers[i].name,
                            (double)numbers[i].value, (double)numbers[i].min, (double)numbers[i].max);
    if (!(sampling->top_p > 0) || !(sampling->repetition_penalty > 0))
        return PHX_FAIL(err, PHX_ERR_INVALID,
                        "top_p and repetition_penalty must be above 0; 1 switches them off");
    if (sampling->choice >= PHX_CHOICES_MAX)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "choice %u of at most %u", sampling->choice, PHX_CHOICES_MAX);
    if (sampling->n_top_logprobs > PHX_TOP_LOGPROBS_MAX)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "top_logprobs %u, the limit is %u", sampling->n_top_logprobs,
                        PHX_TOP_LOGPROBS_MAX);
    if (sampling->n_bias > PHX_LOGIT_BIAS_MAX)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "logit bias of %u ids, the limit is %u", sampling->n_bias,
                        PHX_LOGIT_BIAS_MAX);
    if (!sampling->bias_ids || !sampling->bias)
        return PHX_OK;
    for (uint32_t i = 0; i < sampling->n_bias; i++) {
        const phx_code rc = phx_bias_check(sampling->bias_ids[i], sampling->bias[i], err);
        if (rc != PHX_OK)
            return rc;
    }
    return PHX_OK;
}

phx_code phx_bias_check(uint32_t id, float bias, phx_error *err)
{
    if (!in_range(bias, -PHX_BIAS_ABS_MAX, PHX_BIAS_ABS_MAX))
        return PHX_FAIL(err, PHX_ERR_INVALID, "bias %g of token id %u is outside -%g to %g", (double)bias, id,
                        (double)PHX_BIAS_ABS_MAX, (double)PHX_BIAS_ABS_MAX);
    return PHX_OK;
}

/* False for NaN too. */
static bool in_range(float value, float min, float max)
{
    return isfinite(value) && value >= min && value <= max;
}
