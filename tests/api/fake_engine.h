/* tests/api/fake_engine.h - an engine that plays token ids from a script, one token of each generation per
 * round of the loop. */
#ifndef PHX_TESTS_API_FAKE_ENGINE_H
#define PHX_TESTS_API_FAKE_ENGINE_H

#include "coordinator/engine.h"

#define FAKE_LIVING_MAX 512
#define FAKE_TOKENS_MAX 32768

typedef struct fake_script {
    uint32_t n;
    uint32_t ids[FAKE_TOKENS_MAX];
} fake_script;

typedef struct fake_living {
    uint64_t id; /* 0: free */
    phx_engine_sink sink;
    bool has_sink;
    bool is_ended;
    phx_end_reason reason;
    const fake_script *script;
    uint32_t at;
    uint32_t n_prompt;
    uint32_t n_output_max;
    bool ignore_eos;
    uint32_t capture;
    uint32_t n_credit;
    uint32_t n_parts; /* still to send */
    uint32_t n_stop_ids;
    uint32_t stop_ids[PHX_STOP_IDS_MAX];
    bool logprobs;
    uint32_t n_top;
    uint64_t deadline_us;
} fake_living;

struct phx_engine {
    phx_loop *loop;
    phx_loop_timer *timer;
    phx_engine_state state;
    const phx_plan *plan;
    fake_script scripts[12]; /* choice i plays scripts[i % n_scripts] */
    uint32_t n_scripts;
    bool plays_in_turn;  /* the n-th submit plays script n % n_scripts instead */
    phx_code refuse;     /* what submit answers; PHX_OK: takes */
    uint32_t n_free;     /* submits that are still taken before refuse counts */
    bool holds;          /* no tokens for now */
    uint32_t fail_after; /* tokens, then PHX_END_ERROR; 0: never */
    uint32_t eos;
    uint64_t next_id;
    uint32_t n_submitted;
    uint32_t n_abandoned;
    uint32_t n_cancelled;
    uint64_t n_output;
    phx_sched_request last; /* with the prompt copied: */
    uint32_t last_prompt[FAKE_TOKENS_MAX];
    uint32_t last_bias_ids[PHX_LOGIT_BIAS_MAX];
    float last_bias[PHX_LOGIT_BIAS_MAX];
    fake_living living[FAKE_LIVING_MAX];
};

phx_engine *fake_engine_create(phx_loop *loop);
void fake_engine_destroy(phx_engine *engine);
uint32_t fake_engine_n_living(const phx_engine *engine); /* with a sink: not abandoned */

#endif
