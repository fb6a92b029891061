/* coordinator/canary.c - a short generation at every start, compared with the first one under the same
 * checkpoint and numerics profile; a record of another build is replaced, since its kernels may add in
 * another order. It says that this group is *consistent* with earlier ones, not that it is correct
 * (DESIGN 1.1). */
#include <stdio.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "base/rng.h"
#include "coordinator/engine_private.h"
#include "proto/codec.h"

enum { PROMPT = 24, HASH_HEX = 64 };

static void on_event(void *user, const phx_sched_event *event, const phx_error *why);
static phx_code settle(phx_engine *engine, phx_error *err);

/* The layout is left out of the name on purpose: in deterministic mode every layout must give the same bits.
 */
static void name_file(phx_engine *engine)
{
    char checkpoint[33], numerics[17];
    const phx_hash a = phx_checkpoint_hash(engine->plan->checkpoint);
    const phx_hash b = phx_numerics_hash(&engine->plan->request.numerics);
    /* A context that cuts the canary short would make another canary of it. */
    if (!engine->options.state_dir || !engine->plan->request.numerics.deterministic ||
        engine->plan->n_context < PROMPT + PHX_CANARY_TOKENS)
        return;
    phx_hash_hex(&a, 32, checkpoint);
    phx_hash_hex(&b, 16, numerics);
    (void)snprintf(engine->canary.path, sizeof(engine->canary.path), "%s/canary-%s-%s",
                   engine->options.state_dir, checkpoint, numerics);
}

phx_code phx_canary_start(phx_engine *engine, phx_error *err)
{
    uint32_t prompt[PROMPT];
    const uint32_t n_vocab = (uint32_t)phx_checkpoint_dims(engine->plan->checkpoint)->n_vocab;
    const uint32_t n_room =
        engine->plan->n_context > PHX_CANARY_TOKENS ? engine->plan->n_context - PHX_CANARY_TOKENS : 1;
    for (uint32_t i = 0; i < PROMPT; i++)
        prompt[i] = (uint32_t)(phx_rng_key(1, i, 0, 0) % n_vocab);
    const phx_sched_request request = {
        .prompt = prompt,
        .n_prompt = n_room < PROMPT ? n_room : PROMPT,
        .n_output_max = PHX_CANARY_TOKENS,
        .sampling = {.top_p = 1, .repetition_penalty = 1, .logprobs = true, .n_top_logprobs = 8},
        .ignore_eos = true,
        .cache_salt = UINT64_MAX, /* shared with nobody */
        .no_reuse = true,
    };
    const phx_engine_sink sink = {.event = on_event, .user = engine};
    name_file(engine);
    phx_hasher_init(&engine->canary.hasher);
    return phx_engine_submit_now(engine, &request, &sink, &engine->canary.id, err);
}

static void on_event(void *user, const phx_sched_event *event, const phx_error *why)
{
    phx_engine *engine = user;
    phx_error err = {0};
    if (event->kind == PHX_EVENT_TOKEN) {
        phx_hasher_add_u64(&engine->canary.hasher, event->token);
        phx_hasher_add_u64(&engine->canary.hasher, phx_bits_of_f32(event->logprob));
        for (uint32_t i = 0; i < event->n_top; i++) {
            phx_hasher_add_u64(&engine->canary.hasher, event->top[i].id);
            phx_hasher_add_u64(&engine->canary.hasher, phx_bits_of_f32(event->top[i].logprob));
        }
        return;
    }
    if (why || !phx_engine_is_starting(engine)) /* the group failed meanwhile, and has said why */
        return;
    if (settle(engine, &err) != PHX_OK) {
        phx_fleet_fail(engine->fleet, &err);
        return;
    }
    engine->canary.is_done = true;
    phx_rehearsal_next(engine);
}

static phx_code compare(const char *path, const char *now, phx_str before, bool *ret_stale, phx_error *err)
{
    const phx_str hash = {before.ptr, before.n < HASH_HEX ? before.n : HASH_HEX};
    *ret_stale = false;
    if (phx_str_is(hash, now)) {
        phx_log(PHX_LOG_INFO, "canary %.12s: consistent with the first start", now);
        return PHX_OK;
    }
    if (before.n <= HASH_HEX + 1 ||
        !phx_str_is((phx_str){before.ptr + HASH_HEX + 1, before.n - HASH_HEX - 1}, phx_build_id())) {
        phx_log(PHX_LOG_WARN,
                "canary %.12s differs from %.*s, which another build of Phalanx recorded; recorded anew", now,
                (int)(hash.n < 12 ? hash.n : 12), hash.ptr);
        *ret_stale = true;
        return PHX_OK;
    }
    return PHX_FAIL(
        err, PHX_ERR_NUMERIC,
        "canary %.12s differs from the one recorded at the first start: the same model, profile and "
        "build give other numbers now; check the hardware, or remove '%s' after a change that "
        "explains it",
        now, path);
}

/* A canary that cannot be filed is a warning; one that differs under the same build is a failure. */
static phx_code settle(phx_engine *engine, phx_error *err)
{
    const char *path = engine->canary.path;
    char now[HASH_HEX + 1], line[512];
    bool stale = true;
    phx_buf before;
    phx_error io = {0};
    phx_code rc = PHX_OK;
    const phx_hash hash = phx_hasher_final(&engine->canary.hasher);
    phx_hash_hex(&hash, HASH_HEX, now);
    if (!path[0])
        return PHX_OK;
    phx_buf_init(&before, sizeof(line));
    if (phx_file_read(path, &before, &io) == PHX_OK)
        rc = compare(path, now, phx_buf_view(&before), &stale, err);
    if (rc == PHX_OK && stale) {
        const int n = snprintf(line, sizeof(line), "%s %s", now, phx_build_id());
        io = (phx_error){0};
        if (phx_file_write(path, (phx_bytes){(const uint8_t *)line, (size_t)n}, 0600, &io) != PHX_OK)
            phx_log(PHX_LOG_WARN, "canary not recorded: %s", io.text);
        else
            phx_log(PHX_LOG_INFO, "canary %.12s recorded for later starts", now);
    }
    phx_buf_done(&before);
    return rc;
}
