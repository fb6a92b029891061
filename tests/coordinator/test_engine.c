/* tests/coordinator/test_engine.c - real worker processes under the engine: the reference's greedy answers,
 * token for token, alone and together, in several layouts; groups that are lost, also while the server
 * starts; and what is left behind afterwards. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "coordinator/engine_private.h"
#include "coordinator/sched/drafter.h"

enum { CASES_MAX = 64, IDS_MAX = 1200 };

typedef struct golden_case {
    char name[64];
    uint32_t prompt[IDS_MAX], answer[128];
    uint32_t n_prompt, n_answer, n_got;
    bool finished, ended, wrong;
    double margin;
    phx_code code;
} golden_case;

typedef struct fixture {
    char worker[4096]; /* the engine keeps the pointer for relaunches */
    phx_loop *loop;
    phx_run_dir run_dir;
    phx_checkpoint *checkpoint;
    phx_engine *engine;
    golden_case cases[CASES_MAX];
    uint32_t n_cases;
    uint32_t n_open;
    bool ended;
} fixture;

static uint32_t read_ids(const phx_json *node, uint32_t *ids, uint32_t n_max)
{
    const uint32_t n = (uint32_t)phx_json_count(node);
    assert_true(n <= n_max);
    for (uint32_t i = 0; i < n; i++) {
        int64_t id = 0;
        assert_true(phx_json_as_i64(phx_json_at(node, i), &id));
        ids[i] = (uint32_t)id;
    }
    return n;
}

static void read_cases(fixture *f, const char *path)
{
    phx_error err = {0};
    phx_json *root = NULL;
    if (phx_json_parse_file(path, PHX_JSON_LIMITS_FILE, &root, &err) != PHX_OK)
        fail_msg("%s", err.text);
    const phx_json *list = phx_json_get(root, "cases");
    for (size_t i = 0; i < phx_json_count(list) && f->n_cases < CASES_MAX; i++) {
        golden_case *c = &f->cases[f->n_cases++];
        const phx_json *node = phx_json_at(list, i);
        phx_str name = {0};
        (void)phx_json_as_str(phx_json_get(node, "name"), &name);
        (void)phx_str_copy(c->name, sizeof(c->name), name);
        (void)phx_json_as_bool(phx_json_get(node, "finished"), &c->finished);
        (void)phx_json_as_f64(phx_json_get(node, "smallest_margin"), &c->margin);
        c->n_prompt = read_ids(phx_json_get(node, "prompt_ids"), c->prompt, IDS_MAX);
        c->n_answer = read_ids(phx_json_get(node, "answer_ids"), c->answer, 128);
    }
    phx_json_destroy(root);
}

static void on_state(void *user, const phx_error *cause)
{
    (void)user;
    if (cause)
        (void)printf("state: %s\n", cause->text);
}

static void on_ended(void *user)
{
    ((fixture *)user)->ended = true;
}

static const char *demo_dir(char *path, size_t n)
{
    const char *source = getenv("PHX_SOURCE");
    (void)snprintf(path, n, "%s/launch/demo", source ? source : ".");
    return path;
}

typedef struct site {
    uint32_t tp, pp;
    phx_profile profile;
    bool relaunch;
    uint32_t n_drafts;
} site;

/* Launches the group; the engine is not ready yet. */
static void launch(fixture *f, const site *s)
{
    char dir[4096], path[4200];
    phx_error err = {0};
    const char *build = getenv("PHX_BUILD");
    (void)snprintf(f->worker, sizeof(f->worker), "%s/phalanx-worker", build ? build : "build");
    (void)snprintf(path, sizeof(path), "%s/expected_greedy.json", demo_dir(dir, sizeof(dir)));
    read_cases(f, path);
    phx_engine_options options = {.n_queue_max = 256,
                                  .n_queue_tokens_max = 1u << 20,
                                  .relaunch = s->relaunch,
                                  .on_state = on_state,
                                  .on_ended = on_ended,
                                  .user = f};
    phx_plan_request_default(&options.fleet.request);
    phx_plan_request *request = &options.fleet.request;
    phx_numerics_preset(s->profile, &request->numerics);
    request->numerics.level[0] = 0;
    request->layout.tp = s->tp;
    request->n_drafts = s->n_drafts;
    request->memory_bytes = (uint64_t)1 << 30;
    request->n_threads = 1;
    request->n_context = 2048;
    request->n_step_tokens = 256;
    phx_code rc = phx_run_dir_create("/tmp", &f->run_dir, &err);
    if (rc == PHX_OK)
        rc = phx_loop_create(&f->loop, &err);
    if (rc == PHX_OK)
        rc = phx_checkpoint_open(dir, &f->checkpoint, &err);
    char pp_text[8];
    (void)snprintf(pp_text, sizeof(pp_text), "%u", s->pp);
    if (rc == PHX_OK)
        rc = phx_layout_parse_pp(phx_str_of(pp_text), phx_checkpoint_dims(f->checkpoint), &request->layout,
                                 &err);
    options.fleet.loop = f->loop;
    options.fleet.run_dir = &f->run_dir;
    options.fleet.checkpoint = f->checkpoint;
    options.fleet.worker_path = f->worker;
    options.fleet.backend = "cpu";
    options.fleet.self_check = true;
    options.fleet.step_timeout_ms = 60000;
    if (rc == PHX_OK)
        rc = phx_engine_create(&options, &f->engine, &err);
    if (rc == PHX_OK)
        rc = phx_engine_start(f->engine, &err);
    if (rc != PHX_OK)
        fail_msg("%s (%s)", err.text, err.place);
}

static void run_until_ready(fixture *f)
{
    phx_error err = {0};
    while (phx_engine_state_of(f->engine) == PHX_ENGINE_STARTING)
        (void)phx_loop_step(f->loop, 100000, &err);
    assert_int_equal(phx_engine_state_of(f->engine), PHX_ENGINE_READY);
}

static void start(fixture *f, uint32_t tp, uint32_t pp, phx_profile profile, bool relaunch)
{
    launch(f, &(site){.tp = tp, .pp = pp, .profile = profile, .relaunch = relaunch});
    run_until_ready(f);
}

static void stop(fixture *f)
{
    phx_error err = {0};
    phx_engine_shutdown(f->engine, 3000);
    while (!f->ended)
        (void)phx_loop_step(f->loop, 100000, &err);
    phx_engine_destroy(f->engine);
    phx_checkpoint_close(f->checkpoint);
    phx_loop_destroy(f->loop);
    phx_run_dir_destroy(&f->run_dir);
    assert_int_not_equal(access(f->run_dir.path, F_OK), 0);
}

typedef struct watcher {
    fixture *f;
    golden_case *c;
} watcher;
static watcher watchers[CASES_MAX];

static void on_event(void *user, const phx_sched_event *event, const phx_error *why)
{
    const watcher *w = user;
    golden_case *c = w->c;
    if (event->kind == PHX_EVENT_TOKEN) {
        if (c->n_got >= c->n_answer || c->answer[c->n_got] != event->token)
            c->wrong = true;
        c->n_got++;
        return;
    }
    c->ended = true;
    c->code = why ? why->code : PHX_OK;
    w->f->n_open--;
}

static void submit(fixture *f, uint32_t i)
{
    golden_case *c = &f->cases[i];
    phx_error err = {0};
    uint64_t id = 0;
    const phx_sched_request request = {
        .prompt = c->prompt,
        .n_prompt = c->n_prompt,
        .n_output_max = c->n_answer,
        .sampling = {.top_p = 1, .repetition_penalty = 1},
    };
    watchers[i] = (watcher){f, c};
    const phx_engine_sink sink = {.event = on_event, .user = &watchers[i]};
    c->n_got = 0;
    c->wrong = c->ended = false;
    if (phx_engine_submit(f->engine, &request, &sink, &id, &err) != PHX_OK)
        fail_msg("%s", err.text);
    f->n_open++;
}

static void run_until(fixture *f, uint32_t n_open_max)
{
    phx_error err = {0};
    while (f->n_open > n_open_max)
        (void)phx_loop_step(f->loop, 100000, &err);
}

/* margin: answers whose smallest margin is below it may differ. */
static void check_answers(fixture *f, double margin)
{
    for (uint32_t i = 0; i < f->n_cases; i++) {
        const golden_case *c = &f->cases[i];
        if (c->margin >= margin && (c->wrong || c->n_got != c->n_answer))
            fail_msg("'%s' (margin %g): %u of %u tokens, %s", c->name, c->margin, c->n_got, c->n_answer,
                     c->wrong ? "wrong" : "right");
    }
}

/* A number of a line "NAME: N" in a file of /proc. */
static uint64_t proc_number(uint32_t pid, const char *file, const char *name)
{
    char path[64], line[256];
    uint64_t value = UINT64_MAX;
    (void)snprintf(path, sizeof(path), "/proc/%u/%s", pid, file);
    FILE *stream = fopen(path, "re");
    assert_non_null(stream);
    while (fgets(line, sizeof(line), stream)) {
        if (strncmp(line, name, strlen(name)) == 0)
            value = strtoull(line + strlen(name), NULL, 10);
    }
    (void)fclose(stream);
    return value;
}

/* The kernel's own counters of each rank: bytes read are its slices and the headers, memory is within its
 * plan. */
static void check_processes(fixture *f)
{
    enum { HEADERS = 2 << 20, PROGRAM = 64 << 20 };
    Phalanx__StatusReply status;
    phx_engine_status(f->engine, &status);
    const phx_plan *plan = phx_engine_plan(f->engine);
    for (size_t i = 0; i < status.n_ranks; i++) {
        uint64_t file_bytes = 0;
        for (size_t s = 0; s < plan->ranks[i].n_slices; s++)
            file_bytes += plan->ranks[i].slices[s].file_bytes;
        const uint64_t read_bytes = proc_number(status.ranks[i]->pid, "io", "rchar:");
        const uint64_t resident = proc_number(status.ranks[i]->pid, "status", "VmRSS:") * 1024;
        assert_in_range(read_bytes, file_bytes, file_bytes + HEADERS);
        assert_in_range(resident, plan->ranks[i].weights_bytes, plan->ranks[i].total_bytes + PROGRAM);
    }
}

static void check_greedy(uint32_t tp, uint32_t pp, phx_profile profile)
{
    const double margin = profile == PHX_PROFILE_ORACLE ? 0 : 0.3;
    fixture *f = phx_alloc(1, sizeof(*f));
    start(f, tp, pp, profile, false);
    for (uint32_t i = 0; i < f->n_cases; i++) {
        submit(f, i);
        run_until(f, 0);
    }
    check_answers(f, margin);
    for (uint32_t i = 0; i < f->n_cases; i++) {
        submit(f, i);
        run_until(f, 31);
    }
    run_until(f, 0);
    check_answers(f, margin);
    check_processes(f);
    phx_error err = {0};
    while (phx_engine_stats(f->engine).n_blocks_used > 0) /* they return when the last steps have ended */
        (void)phx_loop_step(f->loop, 100000, &err);
    stop(f);
    phx_free(f);
}

static void test_one_rank_oracle(void **state)
{
    (void)state;
    check_greedy(1, 1, PHX_PROFILE_ORACLE);
}

static void test_four_ranks_serving(void **state)
{
    (void)state;
    check_greedy(2, 2, PHX_PROFILE_SERVING);
}

/* A rank that is killed under load: every request ends with an error within 2 s, and nothing is left. */
static void test_killed_rank(void **state)
{
    (void)state;
    fixture *f = phx_alloc(1, sizeof(*f));
    start(f, 2, 1, PHX_PROFILE_SERVING, false);
    Phalanx__StatusReply status;
    phx_engine_status(f->engine, &status);
    const pid_t victim = (pid_t)status.ranks[1]->pid;
    for (uint32_t i = 0; i < f->n_cases; i++)
        submit(f, i);
    run_until(f, f->n_cases - 4);
    (void)kill(victim, SIGKILL);
    const uint64_t killed_us = phx_clock_us();
    run_until(f, 0);
    const uint64_t took_us = phx_clock_us() - killed_us;
    (void)printf("all requests ended %llu ms after the kill\n", (unsigned long long)took_us / 1000);
    uint32_t n_failed = 0;
    for (uint32_t i = 0; i < f->n_cases; i++)
        n_failed += f->cases[i].code != PHX_OK;
    assert_true(n_failed > 0);
    assert_int_equal(phx_engine_state_of(f->engine), PHX_ENGINE_FAILED);
    stop(f);
    phx_free(f);
}

/* With relaunch on nobody notices but by a pause: every answer is the one that an undisturbed group gives. */
static void test_relaunched(void **state)
{
    (void)state;
    fixture *f = phx_alloc(1, sizeof(*f));
    start(f, 2, 2, PHX_PROFILE_ORACLE, true);
    for (uint32_t round = 0; round < 2; round++) {
        Phalanx__StatusReply status;
        phx_engine_status(f->engine, &status);
        const pid_t victim = (pid_t)status.ranks[round + 1]->pid;
        for (uint32_t i = 0; i < f->n_cases; i++)
            submit(f, i);
        run_until(f, f->n_cases - 8);
        (void)kill(victim, SIGKILL);
        run_until(f, 0);
        check_answers(f, 0);
        for (uint32_t i = 0; i < f->n_cases; i++)
            assert_int_equal(f->cases[i].code, PHX_OK);
        assert_int_equal(phx_engine_state_of(f->engine), PHX_ENGINE_READY);
    }
    stop(f);
    phx_free(f);
}

static bool in_canary(const phx_engine *engine)
{
    return engine->n_living > 0 && !engine->canary.is_done;
}

static bool in_rehearsal(const phx_engine *engine)
{
    return engine->rehearsal.n_left > 0;
}

static void launch_until(fixture *f, bool (*is_in)(const phx_engine *), bool relaunch)
{
    phx_error err = {0};
    launch(f, &(site){.tp = 1, .pp = 1, .profile = PHX_PROFILE_ORACLE, .relaunch = relaunch, .n_drafts = 3});
    while (phx_engine_state_of(f->engine) == PHX_ENGINE_STARTING && !is_in(f->engine))
        (void)phx_loop_step(f->loop, 100000, &err);
    assert_true(is_in(f->engine));
}

/* A group lost before the server was ready: the next one proves itself anew, and nothing of the start goes on
 * beside the users' requests. */
static void test_killed_in_start(void **state)
{
    static bool (*const when[])(const phx_engine *) = {in_canary, in_rehearsal};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        fixture *f = phx_alloc(1, sizeof(*f));
        Phalanx__StatusReply status;
        launch_until(f, when[i], true);
        phx_engine_status(f->engine, &status);
        assert_int_equal(kill((pid_t)status.ranks[0]->pid, SIGKILL), 0);
        run_until_ready(f);
        assert_true(f->engine->canary.is_done);
        assert_false(in_rehearsal(f->engine));
        assert_false(phx_sched_drafter(f->engine->sched)->rehearsal.is_on);
        const uint64_t n_before = phx_engine_stats(f->engine).n_output_tokens;
        uint64_t n_answered = 0;
        for (uint32_t c = 0; c < f->n_cases; c++)
            submit(f, c);
        run_until(f, 0);
        check_answers(f, 0);
        for (uint32_t c = 0; c < f->n_cases; c++)
            n_answered += f->cases[c].n_got;
        assert_int_equal(phx_engine_stats(f->engine).n_output_tokens, n_before + n_answered);
        stop(f);
        phx_free(f);
    }
}

static void on_drained(void *user)
{
    *(bool *)user = true;
}

/* Who ends the server while it starts does not wait for the rest of the start, and it is never ready. */
static void test_drained_in_start(void **state)
{
    (void)state;
    fixture *f = phx_alloc(1, sizeof(*f));
    bool is_drained = false;
    phx_error err = {0};
    launch_until(f, in_rehearsal, false);
    phx_engine_drain(f->engine, (phx_loop_call){on_drained, &is_drained});
    while (!is_drained) {
        (void)phx_loop_step(f->loop, 100000, &err);
        assert_int_not_equal(phx_engine_state_of(f->engine), PHX_ENGINE_READY);
    }
    assert_int_equal(f->engine->rehearsal.n_rows, 1); /* no second size */
    stop(f);
    phx_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_rank_oracle), cmocka_unit_test(test_four_ranks_serving),
        cmocka_unit_test(test_killed_rank),     cmocka_unit_test(test_relaunched),
        cmocka_unit_test(test_killed_in_start), cmocka_unit_test(test_drained_in_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
