/* tests/e2e/test_emu_replays.c - `serve --backend emu` with decode steps replayed as graphs, exchanges
 * through peers' memory among them, and with every step queued anew: the same tokens, and the status tells
 * which. Also where the rows of a step are sequences with their drafts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "client/control_client.h"
#include "tests/e2e/site.h"
#include "tests/emulator.h"

enum { N_CHOICES = 3, N_TOKENS = 5, N_REPLAYS_LEAST = 3, LIMIT_MS = 250000 };

static const uint32_t prompt[] = {5, 42, 79, 116, 153, 190, 227};

typedef struct answer {
    uint32_t ids[N_CHOICES][N_TOKENS];
    uint32_t n[N_CHOICES];
} answer;

/* What a server is and what it is asked. */
typedef struct run {
    const char *mtp;
    const char *graphs_text; /* of the log, where there are graphs */
    bool penalises;          /* then nothing is drafted */
} run;

static bool within_limit(void *user)
{
    return phx_clock_us() < *(const uint64_t *)user;
}

static void ask(phx_client *client, const run *r, answer *ret_answer)
{
    uint32_t own[sizeof(prompt) / sizeof(prompt[0])];
    Phalanx__TokenIds ids = PHALANX__TOKEN_IDS__INIT;
    Phalanx__Sampling sampling = PHALANX__SAMPLING__INIT;
    Phalanx__GenerateRequest request = PHALANX__GENERATE_REQUEST__INIT;
    const Phalanx__GenerateEvent *event = NULL;
    phx_error err = {0};
    uint64_t call_id = 0, until = phx_clock_us() + LIMIT_MS * 1000ull;
    memcpy(own, prompt, sizeof(prompt));
    ids.ids = own;
    ids.n_ids = sizeof(prompt) / sizeof(prompt[0]);
    sampling.temperature = 0.9f;
    sampling.top_p = 0.95f;
    sampling.frequency_penalty = r->penalises ? 0.4f : 0.0f;
    sampling.repetition_penalty = r->penalises ? 1.1f : 1.0f;
    sampling.seed = 5;
    request.prompt_case = PHALANX__GENERATE_REQUEST__PROMPT_TOKEN_IDS;
    request.token_ids = &ids;
    request.sampling = &sampling;
    request.max_tokens = N_TOKENS;
    request.n = N_CHOICES;
    request.ignore_eos = true;
    phx_code rc = phx_client_generate(client, &request, 0, &call_id, &err);
    while (rc == PHX_OK) {
        rc = phx_client_next(client, call_id, within_limit, &until, &event, &err);
        if (!event)
            break;
        assert_true(event->choice < N_CHOICES);
        for (size_t i = 0; i < event->n_token_ids; i++) {
            assert_true(ret_answer->n[event->choice] < N_TOKENS);
            ret_answer->ids[event->choice][ret_answer->n[event->choice]++] = event->token_ids[i];
        }
    }
    if (rc != PHX_OK)
        fail_msg("%s: %s", phx_code_text(rc), err.text);
}

static Phalanx__ServerFrame *status_of(phx_client *client)
{
    Phalanx__ClientFrame frame = PHALANX__CLIENT_FRAME__INIT;
    Phalanx__StatusRequest request = PHALANX__STATUS_REQUEST__INIT;
    Phalanx__ServerFrame *reply = NULL;
    phx_error err = {0};
    frame.body_case = PHALANX__CLIENT_FRAME__BODY_STATUS;
    frame.status = &request;
    if (phx_client_call(client, &frame, LIMIT_MS, &reply, &err) != PHX_OK)
        fail_msg("%s", err.text);
    return reply;
}

/* Of one rank; ranks report some time after a step. */
static uint64_t await_replays(phx_client *client, uint32_t rank, uint64_t n_steps, uint64_t n_least)
{
    const uint64_t until = phx_clock_us() + LIMIT_MS * 1000ull;
    for (;;) {
        Phalanx__ServerFrame *reply = status_of(client);
        assert_true(rank < reply->status_reply->n_ranks);
        const uint64_t n = reply->status_reply->ranks[rank]->n_replays;
        const bool is_there = reply->status_reply->ranks[rank]->n_steps >= n_steps && n >= n_least;
        phx_server_frame_free(reply);
        if (is_there || phx_clock_us() >= until)
            return n;
        (void)usleep(50000);
    }
}

static void assert_drafts(phx_client *client, bool some)
{
    Phalanx__ServerFrame *reply = status_of(client);
    const uint64_t n_fed = reply->status_reply->n_drafts_fed, n_held = reply->status_reply->n_drafts_held;
    phx_server_frame_free(reply);
    (void)printf("%llu drafts fed, %llu held\n", (unsigned long long)n_fed, (unsigned long long)n_held);
    assert_true(some ? n_fed > 0 && n_fed >= n_held : n_fed == 0);
}

static answer answer_of(site *s, const run *r, const char *graphs)
{
    char model[512];
    const char *source = getenv("PHX_SOURCE");
    const bool on = strcmp(graphs, "on") == 0, drafts = strcmp(r->mtp, "on") == 0;
    (void)snprintf(model, sizeof(model), "%s/tests/data/golden/deepseek-v32-fp8", source ? source : ".");
    const char *const args[] = {"serve", "--http",
                                "off",   "--model",
                                model,   "--backend",
                                "emu",   "--threads",
                                "1",     "--tp",
                                "2",     "--context",
                                "128",   "--graphs",
                                graphs,  "--max-batch",
                                "4",     "--step-tokens",
                                "16",    "--mtp",
                                r->mtp,  drafts ? "--drafts" : NULL,
                                "2",     NULL};
    answer got = {0};
    phx_client *client = NULL;
    phx_error err = {0};
    site_start(s, "phalanx", args, NULL);
    if (!site_await_log(s, "ready: ", LIMIT_MS)) {
        site_print_log(s);
        fail_msg("the server did not become ready");
    }
    assert_int_equal(site_await_log(s, r->graphs_text, 1), on);
    assert_true(site_await_log(s, "exchange by peers' memory", 1));
    assert_int_equal(phx_client_connect(s->control, NULL, &client, &err), PHX_OK);
    ask(client, r, &got);
    for (uint32_t rank = 0; rank < 2; rank++) {
        const uint64_t n = await_replays(client, rank, N_TOKENS, on ? N_REPLAYS_LEAST : 0);
        (void)printf("graphs %s: rank %u has replayed %llu steps\n", graphs, rank, (unsigned long long)n);
        assert_true(on ? n >= N_REPLAYS_LEAST : n == 0);
    }
    assert_drafts(client, drafts);
    phx_client_close(client);
    assert_int_equal(kill(s->pid, SIGTERM), 0);
    assert_int_equal(site_wait(s, LIMIT_MS), 0);
    site_assert_clean(s, LIMIT_MS);
    return got;
}

static void same_tokens(site *s, const run *r)
{
    const answer anew = answer_of(s, r, "off"), replayed = answer_of(s, r, "on");
    for (uint32_t c = 0; c < N_CHOICES; c++)
        assert_int_equal(anew.n[c], N_TOKENS);
    assert_memory_equal(&anew, &replayed, sizeof(anew));
    assert_memory_not_equal(anew.ids[0], anew.ids[1], sizeof(anew.ids[0])); /* draws, not one greedy answer */
}

static void replayed_steps_give_the_same_tokens(void **state)
{
    const run r = {"off", "graphs: 6, of decode steps of up to 1, 2, 4 rows and 16, 128 keys", true};
    same_tokens(*state, &r);
}

/* The model is of random numbers, so no draft holds: what is fed and not taken must leave no trace. */
static void replayed_steps_with_drafts_give_the_same_tokens(void **state)
{
    const run r = {"on", "graphs: 10, of decode steps of up to 1, 2, 4, 8, 12 rows and 16, 128 keys", false};
    same_tokens(*state, &r);
}

int main(void)
{
    if (!phx_has_emulator())
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(replayed_steps_give_the_same_tokens, site_setup, site_teardown),
        cmocka_unit_test_setup_teardown(replayed_steps_with_drafts_give_the_same_tokens, site_setup,
                                        site_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
