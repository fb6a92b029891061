/* worker/exec/draft.c - multi-token prediction: one more layer behind the last guesses the tokens after the
 * next (models.md 2.10). Of the last stage, when the step's tokens are chosen.
 *
 * The draft layer has an entry for each token but the first: made of token q's embedding and of the model's
 * final hidden state at q - 1, it lies at place q of the layer's cache. A pass makes the entries of the
 * step's tokens and of those just sampled; the last entry's output gives the first draft, and its hidden
 * state takes the model's place for the draft after that. Entries behind a draft are guesses: the step that
 * learns the truth writes them again.
 *
 * A decoding row that asks for no drafts costs nothing here: it makes no entries and keeps no state. Later
 * rows attend to whatever lies in those places, which makes guesses worse and text not different.
 *
 * A pass is the walk of any layer over rows that this file writes. Of rows that make entries the hidden state
 * before the slot's next token is kept, and that at the end of each full block, for whoever reuses the block.
 */
#include "worker/exec/state.h"

#include <assert.h>

#include "base/alloc.h"

struct phx_draft {
    int32_t *tokens;     /* [n_step_tokens] of the step's rows */
    uint32_t *row_of;    /* [n_step_tokens] plan row of each row of the pass */
    int32_t *last_row;   /* [n_slots] of plan rows: the pass's row that gives the next draft, -1: none */
    phx_sampled *wanted; /* [n_slots] */
    uint32_t n_rows;     /* of the pass */
    uint32_t n_kept;     /* of them, the first ones: a kept hidden state; the others one of the step */
    bool *block_kept;    /* [n_blocks] the hidden state at the block's end is kept */
};

phx_code phx_draft_create(const phx_plan *plan, phx_draft **ret_draft, phx_error *err)
{
    phx_code rc = PHX_OK;
    const size_t n_slots = plan->request.n_batch, n_tokens = plan->request.n_step_tokens;
    phx_draft *draft = phx_alloc(1, sizeof(*draft));
    if (!draft) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "drafts");
        goto out;
    }
    draft->tokens = phx_alloc(n_tokens, sizeof(*draft->tokens));
    draft->row_of = phx_alloc(n_tokens, sizeof(*draft->row_of));
    draft->last_row = phx_alloc(n_slots, sizeof(*draft->last_row));
    draft->wanted = phx_alloc(n_slots, sizeof(*draft->wanted));
    draft->block_kept = phx_alloc(plan->n_blocks, sizeof(*draft->block_kept));
    if (!draft->tokens || !draft->row_of || !draft->last_row || !draft->wanted || !draft->block_kept) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "drafts of %zu slots", n_slots);
        goto out;
    }
    *ret_draft = draft;
    draft = NULL;
out:
    phx_draft_destroy(draft);
    return rc;
}

void phx_draft_destroy(phx_draft *draft)
{
    if (!draft)
        return;
    phx_free(draft->tokens);
    phx_free(draft->row_of);
    phx_free(draft->last_row);
    phx_free(draft->wanted);
    phx_free(draft->block_kept);
    phx_free(draft);
}

static phx_slot_state *slot_of(const phx_exec *exec, uint32_t plan_row)
{
    return phx_slots_at(exec->slots, exec->plan->rows[plan_row].slot);
}

/* ---- rows of a pass ---- */

/* The token whose entry a row makes: where it stands, or which it is; and its hidden state. */
typedef struct entry {
    uint32_t position;
    int32_t id;    /* -1: the one in place */
    int32_t place; /* of last_tokens */
    int32_t from;  /* row of the hidden states */
} entry;

static void put_row(phx_exec *exec, uint32_t plan_row, const entry *e)
{
    phx_draft *draft = exec->draft;
    const phx_slot_state *slot = slot_of(exec, plan_row);
    const uint32_t t = draft->n_rows++;
    const int64_t block = slot->blocks[e->position / PHX_BLOCK_TOKENS];
    draft->row_of[t] = plan_row;
    exec->host.ids[t] = e->id;
    exec->host.id_slots[t] = e->place;
    exec->host.positions[t] = (int32_t)e->position;
    exec->host.n_keys[t] = (int32_t)e->position; /* entries 1 to position */
    exec->host.blocks[t] = exec->buf.block_tables + exec->plan->rows[plan_row].slot * exec->blocks_max;
    exec->host.entries[t] = block * PHX_BLOCK_TOKENS + e->position % PHX_BLOCK_TOKENS;
    exec->host.counted[t] = -1;
    exec->host.draft_from[t] = e->from;
}

/* Guesses may run past the blocks that the slot has been given, and past the context. */
static bool has_place(const phx_exec *exec, const phx_slot_state *slot, uint32_t position)
{
    return position < slot->n_blocks * PHX_BLOCK_TOKENS && position < exec->parts.plan->n_context;
}

/* A decoding row makes entries when it drafts; prompts always do. */
static bool makes_entries(const phx_step_row *row)
{
    return !(row->flags & PHX_ROW_FROM_SLOT) || row->n_drafts != 0;
}

/* Where the hidden state before the row's first token is kept: with the slot, or, when it has just opened on
 * cached blocks, with the last of those; -1: nowhere. Slots come first. */
static int32_t kept_row(const phx_exec *exec, uint32_t plan_row, uint32_t first)
{
    const phx_slot_state *slot = slot_of(exec, plan_row);
    if (slot->kept == PHX_KEPT_WITH_SLOT)
        return (int32_t)exec->plan->rows[plan_row].slot;
    if (slot->kept == PHX_KEPT_NOWHERE)
        return -1;
    const int32_t block = slot->blocks[first / PHX_BLOCK_TOKENS - 1];
    return exec->draft->block_kept[block] ? (int32_t)exec->parts.plan->request.n_batch + block : -1;
}

/* The entry of the step's first token, whose hidden state is a kept one, unless an earlier step has made it.
 */
static void put_first(phx_exec *exec, uint32_t plan_row)
{
    const phx_slot_state *slot = slot_of(exec, plan_row);
    const uint32_t first = slot->n_tokens - exec->n_taken[plan_row];
    if (!makes_entries(&exec->plan->rows[plan_row]) || first == 0 || slot->n_entered > first)
        return;
    const int32_t from = kept_row(exec, plan_row, first);
    if (from < 0)
        return;
    put_row(exec, plan_row,
            &(entry){.position = first,
                     .id = exec->draft->tokens[phx_exec_row_start(exec, plan_row)],
                     .place = -1,
                     .from = from});
}

/* The entries of the step's other tokens, and of the one that was sampled last. */
static void put_others(phx_exec *exec, uint32_t plan_row)
{
    const phx_step_row *row = &exec->plan->rows[plan_row];
    phx_slot_state *slot = slot_of(exec, plan_row);
    const uint32_t n = exec->n_taken[plan_row], first = slot->n_tokens - n;
    const int32_t start = (int32_t)phx_exec_row_start(exec, plan_row);
    exec->draft->last_row[plan_row] = -1;
    if (!makes_entries(row))
        return;
    for (uint32_t j = 1; j < n; j++)
        put_row(exec, plan_row,
                &(entry){first + j, exec->draft->tokens[start + (int32_t)j], -1, start + (int32_t)j - 1});
    slot->n_entered = first + n;
    if (!(row->flags & PHX_ROW_SAMPLE) || !has_place(exec, slot, first + n))
        return;
    if (row->n_drafts)
        exec->draft->last_row[plan_row] = (int32_t)exec->draft->n_rows;
    put_row(exec, plan_row,
            &(entry){first + n, -1, phx_exec_place(exec, row->slot, 0), start + (int32_t)n - 1});
    slot->n_entered++;
}

/* ---- the walk ---- */

static void pick_hidden(phx_exec *exec, const float *from, uint32_t first, uint32_t n)
{
    const int64_t width = exec->dims->d_hidden;
    exec->parts.ops->pick_rows(exec->pool, &(phx_pick_rows_args){
                                               .x = {from, width, PHX_F32},
                                               .rows = exec->buf.draft_from + first,
                                               .n_rows = n,
                                               .n_cols = width,
                                               .out = exec->buf.partial + (int64_t)first * width,
                                           });
}

/* buf.hidden = projection of (embedding, hidden state), each normalised; the states stand in buf.partial. */
static phx_code join(phx_exec *exec, const phx_layer_weights *w, phx_error *err)
{
    const int64_t n = exec->n_tokens, width = exec->dims->d_hidden;
    const struct {
        const float *x, *weight;
        void *out;
    } halves[] = {
        {exec->buf.hidden, w->draft_embed_norm, exec->buf.draft_input},
        {exec->buf.partial, w->draft_hidden_norm, exec->buf.draft_input + (size_t)width * exec->act_bytes}};
    const phx_code rc = phx_exec_embed(exec, err);
    if (rc != PHX_OK)
        return rc;
    for (size_t i = 0; i < sizeof(halves) / sizeof(halves[0]); i++)
        exec->parts.ops->rms_norm(exec->pool, &(phx_rms_norm_args){
                                                  .x = halves[i].x,
                                                  .x_stride = width,
                                                  .weight = halves[i].weight,
                                                  .eps = (float)exec->dims->rms_eps,
                                                  .n_rows = n,
                                                  .n_cols = width,
                                                  .out_act = phx_exec_act_out(exec, halves[i].out, 2 * width),
                                              });
    exec->parts.ops->product(exec->pool, &(phx_product_args){
                                             .x = phx_exec_act(exec, exec->buf.draft_input, 2 * width),
                                             .w = &w->draft_proj,
                                             .n_groups = 1,
                                             .n_out = width,
                                             .n_rows = n,
                                             .out = exec->buf.hidden,
                                             .out_stride = width,
                                         });
    return PHX_OK;
}

/* The layer over the rows of the pass; its hidden states, normalised, stand in buf.norm and buf.norm_act. The
 * walk captures nothing by itself: its rows are not the plan's. */
static phx_code walk(phx_exec *exec, phx_error *err)
{
    const int64_t layer = exec->parts.weights->n_layers - exec->parts.weights->n_draft_layers;
    const phx_layer_weights *w = &exec->parts.weights->layers[layer];
    const phx_step_plan *plan = exec->plan, no_rows = {.capture = plan->capture & PHX_CAPTURE_TOPK};
    exec->plan = &no_rows;
    exec->selecting = phx_exec_must_select(exec);
    phx_code rc = join(exec, w, err);
    if (rc == PHX_OK)
        rc = phx_exec_attention(exec, layer, err);
    if (rc == PHX_OK)
        rc = phx_exec_ffn(exec, layer, err);
    if (rc == PHX_OK)
        phx_exec_norm(exec, w->draft_head_norm);
    exec->plan = plan;
    return rc;
}

/* Hands out rows [first, first + n), which are consecutive tokens of a capturing request. */
static phx_code capture_rows(phx_exec *exec, uint32_t first, uint32_t n, phx_error *err)
{
    const phx_dims *d = exec->dims;
    phx_exec_rows rows = {
        .request_id = slot_of(exec, exec->draft->row_of[first])->request_id,
        .first = first,
        .n = n,
        .position = (uint32_t)exec->host.positions[first] - 1, /* golden files count entries from 0 */
    };
    phx_code rc = PHX_OK;
    if (exec->plan->capture & PHX_CAPTURE_HIDDEN)
        rc = phx_exec_hand_out(exec, &rows,
                               &(phx_capture_view){.name = "mtp.final",
                                                   .dtype = PHX_F32,
                                                   .data = exec->buf.norm,
                                                   .stride = d->d_hidden,
                                                   .n_cols = d->d_hidden},
                               err);
    if (rc == PHX_OK && d->index_n_heads && (exec->plan->capture & PHX_CAPTURE_TOPK))
        rc = phx_exec_hand_out(exec, &rows,
                               &(phx_capture_view){.name = "mtp.topk",
                                                   .dtype = PHX_I32,
                                                   .data = exec->buf.selected,
                                                   .stride = d->index_topk,
                                                   .n_cols = d->index_topk},
                               err);
    if (rc == PHX_OK && (exec->plan->capture & PHX_CAPTURE_LOGITS))
        rc = phx_exec_hand_out_logits(exec, &rows, "mtp.logits", err);
    return rc;
}

static phx_code capture_pass(phx_exec *exec, phx_error *err)
{
    const phx_draft *draft = exec->draft;
    phx_code rc = PHX_OK;
    for (uint32_t first = 0, end; first < draft->n_rows && rc == PHX_OK; first = end) {
        for (end = first + 1; end < draft->n_rows && draft->row_of[end] == draft->row_of[first] &&
                              exec->host.positions[end] == exec->host.positions[end - 1] + 1;)
            end++;
        if (exec->plan->rows[draft->row_of[first]].flags & PHX_ROW_CAPTURE)
            rc = capture_rows(exec, first, end - first, err);
    }
    return rc;
}

/* Runs the rows put so far. from_step: where the hidden states of those behind the kept ones stand. */
static phx_code run_pass(phx_exec *exec, const float *from_step, phx_error *err)
{
    phx_draft *draft = exec->draft;
    const uint32_t n = draft->n_rows, n_kept = draft->n_kept;
    exec->n_tokens = exec->n_own = n;
    exec->n_keys_max = 0;
    for (uint32_t t = 0; t < n; t++)
        exec->n_keys_max = exec->host.n_keys[t] > exec->n_keys_max ? exec->host.n_keys[t] : exec->n_keys_max;
    phx_code rc = phx_upload(exec->parts.backend, exec->buf.draft_from, exec->host.draft_from,
                             n * sizeof(int32_t), err);
    if (rc == PHX_OK)
        rc = phx_exec_upload_rows(exec, err);
    if (rc != PHX_OK)
        return rc;
    pick_hidden(exec, phx_kv_pool_hidden(exec->parts.kv)->data, 0, n_kept);
    pick_hidden(exec, from_step, n_kept, n - n_kept);
    rc = walk(exec, err);
    if (rc == PHX_OK && exec->plan->capture && exec->parts.sink)
        rc = capture_pass(exec, err);
    draft->n_rows = draft->n_kept = 0;
    return rc == PHX_OK ? phx_exec_wait(exec, err) : rc; /* the rows may be written again */
}

/* In one pass where there is room; first entries before the others, which attend to them. */
static phx_code make_entries(phx_exec *exec, phx_error *err)
{
    phx_draft *draft = exec->draft;
    phx_code rc = PHX_OK;
    for (uint32_t i = 0; i < exec->plan->n_rows; i++)
        put_first(exec, i);
    draft->n_kept = draft->n_rows;
    if (draft->n_kept + exec->n_own > exec->parts.plan->request.n_step_tokens)
        rc = run_pass(exec, exec->buf.final_hidden, err);
    for (uint32_t i = 0; i < exec->plan->n_rows; i++)
        put_others(exec, i);
    return rc == PHX_OK && draft->n_rows ? run_pass(exec, exec->buf.final_hidden, err) : rc;
}

/* ---- drafts ---- */

/* Draft nth, counted from 0, of every slot that wants one, drawn as the target will be. */
static phx_code choose(phx_exec *exec, uint32_t nth, phx_error *err)
{
    phx_draft *draft = exec->draft;
    uint32_t n = 0;
    phx_code rc = PHX_OK;
    for (uint32_t i = 0; i < exec->plan->n_rows; i++)
        if (draft->last_row[i] >= 0)
            draft->wanted[n++] = (phx_sampled){
                .plan_row = i,
                .row = draft->last_row[i],
                .position = slot_of(exec, i)->n_tokens + 1 + nth,
                .place = phx_exec_place(exec, exec->plan->rows[i].slot, 1 + nth),
            };
    for (uint32_t first = 0; first < n && rc == PHX_OK; first += exec->n_samples) {
        exec->n_samples = n - first < PHX_LOGIT_ROWS ? n - first : PHX_LOGIT_ROWS;
        rc = phx_exec_tell_samples(exec, draft->wanted + first, exec->n_samples, err);
        if (rc == PHX_OK)
            rc = phx_exec_queue_samples(exec, err);
        if (rc == PHX_OK)
            rc = phx_exec_wait(exec, err);
    }
    return rc;
}

/* Rows for the drafts just made whose slots want one more. */
static void put_drafts(phx_exec *exec, uint32_t nth)
{
    int32_t *last_row = exec->draft->last_row;
    for (uint32_t i = 0; i < exec->plan->n_rows; i++) {
        const phx_step_row *row = &exec->plan->rows[i];
        const uint32_t position = slot_of(exec, i)->n_tokens + 1 + nth;
        const int32_t from = last_row[i];
        last_row[i] = -1;
        if (from < 0 || nth + 1 >= row->n_drafts || !has_place(exec, slot_of(exec, i), position))
            continue;
        last_row[i] = (int32_t)exec->draft->n_rows;
        put_row(exec, i, &(entry){position, -1, phx_exec_place(exec, row->slot, 1 + nth), from});
    }
}

static phx_code make_drafts(phx_exec *exec, phx_error *err)
{
    phx_code rc = choose(exec, 0, err);
    for (uint32_t nth = 0; rc == PHX_OK; nth++) {
        put_drafts(exec, nth);
        if (exec->draft->n_rows == 0)
            break;
        rc = run_pass(exec, exec->buf.norm, err);
        if (rc == PHX_OK)
            rc = choose(exec, nth + 1, err);
    }
    return rc;
}

/* ---- kept hidden states ---- */

/* Where nothing but decoding runs, the states are the step's rows as they stand. */
static phx_code write_kept(phx_exec *exec, uint32_t n, phx_error *err)
{
    bool in_place = true;
    for (uint32_t i = 0; i < n && in_place; i++)
        in_place = exec->host.draft_from[i] == (int32_t)i;
    phx_code rc = in_place ? PHX_OK
                           : phx_upload(exec->parts.backend, exec->buf.draft_from, exec->host.draft_from,
                                        n * sizeof(int32_t), err);
    if (rc == PHX_OK)
        rc = phx_upload(exec->parts.backend, exec->buf.entries, exec->host.entries, n * sizeof(int64_t), err);
    if (rc != PHX_OK)
        return rc;
    if (!in_place)
        pick_hidden(exec, exec->buf.final_hidden, 0, n);
    exec->parts.ops->cache_write(exec->pool, &(phx_cache_write_args){
                                                 .x = in_place ? exec->buf.final_hidden : exec->buf.partial,
                                                 .x_stride = exec->dims->d_hidden,
                                                 .n_rows = n,
                                                 .entries = exec->buf.entries,
                                                 .cache = phx_kv_pool_hidden(exec->parts.kv),
                                             });
    return phx_exec_wait(exec, err);
}

/* The states that are kept say nothing of a row that made no entries. */
static void forget_states(phx_exec *exec)
{
    for (uint32_t i = 0; i < exec->plan->n_rows; i++) {
        phx_slot_state *slot = slot_of(exec, i);
        if (makes_entries(&exec->plan->rows[i]))
            continue;
        slot->kept = PHX_KEPT_NOWHERE;
        for (uint32_t end = slot->n_tokens; end > slot->n_tokens - exec->n_taken[i]; end--)
            if (end % PHX_BLOCK_TOKENS == 0)
                exec->draft->block_kept[slot->blocks[end / PHX_BLOCK_TOKENS - 1]] = false;
    }
}

static phx_code keep_states(phx_exec *exec, phx_error *err)
{
    const uint32_t n_max = exec->parts.plan->request.n_step_tokens;
    const int64_t first_block = exec->parts.plan->request.n_batch;
    uint32_t n = 0;
    phx_code rc = PHX_OK;
    for (uint32_t i = 0; i < exec->plan->n_rows && rc == PHX_OK; i++) {
        phx_slot_state *slot = slot_of(exec, i);
        if (!makes_entries(&exec->plan->rows[i]))
            continue;
        const uint32_t n_taken = exec->n_taken[i], first = slot->n_tokens - n_taken;
        const int32_t start = (int32_t)phx_exec_row_start(exec, i);
        for (uint32_t j = 0; j < n_taken && rc == PHX_OK; j++) {
            const bool last = j == n_taken - 1, full = (first + j + 1) % PHX_BLOCK_TOKENS == 0;
            const int64_t entries[] = {exec->plan->rows[i].slot,
                                       first_block + slot->blocks[(first + j) / PHX_BLOCK_TOKENS]};
            if (full)
                exec->draft->block_kept[slot->blocks[(first + j) / PHX_BLOCK_TOKENS]] = true;
            for (uint32_t k = last ? 0 : 1; k < (full ? 2 : 1) && rc == PHX_OK; k++) {
                exec->host.draft_from[n] = start + (int32_t)j;
                exec->host.entries[n++] = entries[k];
                if (n == n_max) {
                    rc = write_kept(exec, n, err);
                    n = 0;
                }
            }
        }
        slot->kept = PHX_KEPT_WITH_SLOT;
    }
    return rc == PHX_OK && n ? write_kept(exec, n, err) : rc;
}

phx_code phx_exec_draft(phx_exec *exec, phx_error *err)
{
    const int64_t width = exec->dims->d_hidden;
    bool any = false;
    for (uint32_t i = 0; i < exec->plan->n_rows && !any; i++)
        any = makes_entries(&exec->plan->rows[i]);
    forget_states(exec);
    if (!any)
        return PHX_OK;
    exec->parts.ops->round(exec->pool, &(phx_round_args){/* f32 to f32: a copy, out of the way of passes */
                                                         .x = exec->buf.norm,
                                                         .x_stride = width,
                                                         .n_rows = exec->n_own,
                                                         .n_cols = width,
                                                         .out = {exec->buf.final_hidden, width, PHX_F32}});
    phx_code rc = phx_fetch(exec->parts.backend, exec->host.tokens, exec->buf.tokens,
                            (size_t)exec->n_own * sizeof(int32_t), err);
    /* A step that sampled nothing may still be reading what is written here. */
    if (rc == PHX_OK)
        rc = phx_exec_wait(exec, err);
    if (rc != PHX_OK)
        return rc;
    memcpy(exec->draft->tokens, exec->host.tokens, (size_t)exec->n_own * sizeof(int32_t));
    rc = make_entries(exec, err);
    if (rc == PHX_OK)
        rc = make_drafts(exec, err);
    return rc == PHX_OK ? keep_states(exec, err) : rc;
}
