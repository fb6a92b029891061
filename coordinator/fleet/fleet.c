/* coordinator/fleet/fleet.c - the rank group from launch to end.
 * Reading order: create (launch), on_frame (hello, assign, ready, result), watch_over (deadlines), shutdown.
 */
#include "coordinator/fleet/fleet.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "coordinator/fleet/launch.h"
#include "coordinator/fleet/member.h"
#include "proto/link.h"

#define WATCH_PERIOD_US       200000u
#define SILENCE_US            5000000u  /* a control thread reports five times a second */
#define HELLO_US              60000000u /* from launch to the last hello, when we launched */
#define MESSAGES_AT_ONCE      64u
#define VERB_TIMEOUT_SLACK_MS 1000u

typedef enum fleet_phase {
    FLEET_GATHERING,
    FLEET_LOADING,
    FLEET_READY,
    FLEET_ENDING,
    FLEET_ENDED
} fleet_phase;

enum { IN_FLIGHT_MAX = PHX_PP_MAX + 2 };

/* A step under way. One that captures is delivered once every rank has said that it is done with it: a rank's
 * captured parts come before that word on its own socket, but nothing orders the sockets of different ranks.
 */
typedef struct in_flight {
    uint64_t step;
    bool captures;
    phx_step_result result;
} in_flight;

struct phx_fleet {
    phx_fleet_options options;
    phx_fleet_sink sink;
    fleet_phase phase;
    uint64_t epoch;
    uint32_t n_ranks;
    phx_link *link;
    char key_file[300];
    bool has_keys;
    phx_loop_watch *watch;
    phx_loop_timer *timer;
    phx_loop_signal *child_signal;
    pid_t launcher; /* 0: none or gone */
    phx_member members[PHX_RANKS_MAX];
    phx_plan *plan; /* final, once all ranks have said hello */
    phx_buf message;
    phx_buf wire;
    phx_row_result *rows;           /* [IN_FLIGHT_MAX][n_results_max] of held results */
    in_flight steps[IN_FLIGHT_MAX]; /* sent and not yet delivered: a ring by number */
    uint64_t n_delivered;
    uint64_t started_us;
    uint64_t oldest_step_us; /* when the oldest step in flight was sent; 0: none */
    phx_steady clock;        /* of all times here */
    uint64_t stood_us;       /* of it, that the log has told */
    uint64_t n_sent;
    uint64_t n_results;
    uint64_t kill_at_us; /* while ending */
    bool told_lost;
};

static phx_code open_link(phx_fleet *fleet, phx_error *err);
static phx_code launch(phx_fleet *fleet, phx_error *err);
static bool on_readable(void *user);
static void on_timer(void *user);
static void on_child(void *user);
static phx_code on_frame(phx_fleet *fleet, const phx_peer *peer, const Phalanx__RankFrame *frame,
                         phx_error *err);
static phx_code on_hello(phx_fleet *fleet, const phx_peer *peer, const Phalanx__Hello *hello, phx_error *err);
static phx_code assign_all(phx_fleet *fleet, phx_error *err);
static phx_code on_ready(phx_fleet *fleet, phx_member *member, const Phalanx__Ready *ready, phx_error *err);
static phx_code on_result(phx_fleet *fleet, phx_member *member, const Phalanx__RankFrame *frame,
                          phx_error *err);
static void deliver(phx_fleet *fleet);
static void end_group(phx_fleet *fleet, uint32_t grace_ms);
static bool all_gone(phx_fleet *fleet);

static uint64_t now_us(phx_fleet *fleet)
{
    return phx_steady_us(&fleet->clock, phx_clock_us());
}

/* Of a step: every draft may hold. */
static uint32_t n_results_max(const phx_fleet *fleet)
{
    return fleet->options.request.n_batch * (1 + fleet->options.request.n_drafts);
}

phx_code phx_fleet_create(const phx_fleet_options *options, const phx_fleet_sink *sink, phx_fleet **ret_fleet,
                          phx_error *err)
{
    phx_code rc = PHX_OK;
    phx_fleet *fleet = phx_alloc(1, sizeof(*fleet));
    if (!fleet)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "fleet");
    fleet->options = *options;
    fleet->sink = *sink;
    fleet->epoch = options->epoch;
    fleet->n_ranks = phx_layout_n_ranks(&options->request.layout);
    fleet->started_us = now_us(fleet);
    fleet->stood_us = fleet->clock.stood_us;
    phx_buf_init(&fleet->message, PHX_MESSAGE_MAX);
    phx_buf_init(&fleet->wire, PHX_MESSAGE_MAX);
    const phx_loop_signal_spec child = {SIGCHLD, on_child, fleet};
    fleet->rows = phx_alloc((size_t)n_results_max(fleet) * IN_FLIGHT_MAX, sizeof(*fleet->rows));
    if (!fleet->rows) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "results of %u slots", options->request.n_batch);
        goto out;
    }
    rc = open_link(fleet, err);
    if (rc == PHX_OK)
        rc = phx_loop_timer_create(options->loop, (phx_loop_call){on_timer, fleet}, &fleet->timer, err);
    if (rc == PHX_OK)
        rc = phx_loop_signal_create(options->loop, &child, &fleet->child_signal, err);
    if (rc == PHX_OK && !options->no_launch)
        rc = launch(fleet, err);
    if (rc != PHX_OK)
        goto out;
    phx_loop_timer_start(fleet->timer, WATCH_PERIOD_US);
    *ret_fleet = fleet;
    fleet = NULL;
out:
    phx_fleet_destroy(fleet);
    return rc;
}

void phx_fleet_destroy(phx_fleet *fleet)
{
    if (!fleet)
        return;
    if (fleet->launcher > 0)
        (void)kill(-fleet->launcher, SIGKILL);
    for (uint32_t i = 0; i < fleet->n_ranks; i++)
        phx_member_kill(&fleet->members[i]);
    if (fleet->launcher > 0)
        (void)waitpid(fleet->launcher, NULL, 0);
    phx_loop_watch_destroy(fleet->watch);
    phx_loop_timer_destroy(fleet->timer);
    phx_loop_signal_destroy(fleet->child_signal);
    phx_link_close(fleet->link);
    phx_plan_destroy(fleet->plan);
    phx_buf_done(&fleet->message);
    phx_buf_done(&fleet->wire);
    phx_free(fleet->rows);
    phx_free(fleet);
}

const char *phx_fleet_address(const phx_fleet *fleet)
{
    return phx_link_address(fleet->link);
}

const char *phx_fleet_key_file(const phx_fleet *fleet)
{
    return fleet->has_keys ? fleet->key_file : NULL;
}

uint64_t phx_fleet_epoch(const phx_fleet *fleet)
{
    return fleet->epoch;
}

static phx_code open_link(phx_fleet *fleet, phx_error *err)
{
    char address[300];
    phx_link_keys keys;
    const char *wanted = fleet->options.address;
    if (wanted)
        (void)snprintf(address, sizeof(address), "%s", wanted);
    else if (fleet->options.hosts)
        (void)snprintf(address, sizeof(address), "tcp://0.0.0.0:0");
    else
        (void)snprintf(address, sizeof(address), "ipc://%s/ranks", fleet->options.run_dir->path);
    fleet->has_keys = strncmp(address, "tcp:", 4) == 0;
    phx_code rc = PHX_OK;
    if (fleet->has_keys) {
        if (fleet->options.key_file)
            (void)snprintf(fleet->key_file, sizeof(fleet->key_file), "%s", fleet->options.key_file);
        else
            (void)snprintf(fleet->key_file, sizeof(fleet->key_file), "%s/ranks.key",
                           fleet->options.run_dir->path);
        rc = phx_link_keys_make(&keys, err);
        if (rc == PHX_OK)
            rc = phx_link_keys_write(&keys, fleet->key_file, err);
    }
    if (rc == PHX_OK)
        rc = phx_link_bind(address, fleet->has_keys ? &keys : NULL, &fleet->link, err);
    if (rc != PHX_OK)
        return rc;
    const phx_loop_watch_spec spec = {phx_link_fd(fleet->link), on_readable, fleet};
    return phx_loop_watch_create(fleet->options.loop, &spec, &fleet->watch, err);
}

static phx_code launch(phx_fleet *fleet, phx_error *err)
{
    const phx_launch_spec spec = {
        .worker_path = fleet->options.worker_path,
        .address = phx_link_address(fleet->link),
        .key_file = phx_fleet_key_file(fleet),
        .template_text = fleet->options.launch_template,
        .hosts = fleet->options.hosts,
        .tmp_dir = fleet->options.run_dir->path,
        .backend = fleet->options.backend,
        .allow_unproven = fleet->options.allow_unproven,
        .n_ranks = fleet->n_ranks,
        .epoch = fleet->epoch,
    };
    return phx_launch_start(&spec, &fleet->launcher, err);
}

/* ---- messages ---- */

static bool on_readable(void *user)
{
    phx_fleet *fleet = user;
    for (uint32_t i = 0; i < MESSAGES_AT_ONCE; i++) {
        phx_peer peer;
        phx_error err = {0};
        Phalanx__RankFrame *frame = NULL;
        if (phx_link_receive(fleet->link, &peer, &fleet->message, &err) != PHX_OK)
            return false;
        phx_code rc = phx_rank_frame_decode(
            (phx_bytes){(const uint8_t *)fleet->message.ptr, fleet->message.n}, &frame, &err);
        /* A rank that was started by hand does not know the epoch before it is assigned; all others must name
         * it. */
        const bool mine =
            rc == PHX_OK && (frame->epoch == fleet->epoch ||
                             (frame->epoch == 0 && frame->body_case == PHALANX__RANK_FRAME__BODY_HELLO));
        if (mine)
            rc = on_frame(fleet, &peer, frame, &err);
        phx_rank_frame_free(frame);
        if (rc != PHX_OK)
            phx_fleet_fail(fleet, &err);
    }
    return true;
}

static phx_member *member_of(phx_fleet *fleet, const phx_peer *peer)
{
    for (uint32_t i = 0; i < fleet->n_ranks; i++) {
        phx_member *m = &fleet->members[i];
        if (m->known && m->peer.n == peer->n && memcmp(m->peer.id, peer->id, peer->n) == 0)
            return m;
    }
    return NULL;
}

static phx_code on_frame(phx_fleet *fleet, const phx_peer *peer, const Phalanx__RankFrame *frame,
                         phx_error *err)
{
    phx_member *member = member_of(fleet, peer);
    if (frame->body_case == PHALANX__RANK_FRAME__BODY_HELLO)
        return on_hello(fleet, peer, frame->hello, err);
    if (!member || fleet->phase >= FLEET_ENDING)
        return PHX_OK; /* not of this group, or too late to matter */
    member->heard_us = now_us(fleet);
    switch (frame->body_case) {
    case PHALANX__RANK_FRAME__BODY_PROGRESS:
        phx_member_progress(member, frame->progress);
        return PHX_OK;
    case PHALANX__RANK_FRAME__BODY_READY:
        return on_ready(fleet, member, frame->ready, err);
    case PHALANX__RANK_FRAME__BODY_RESULT:
        return on_result(fleet, member, frame, err);
    case PHALANX__RANK_FRAME__BODY_CAPTURE:
        fleet->sink.capture(fleet->sink.user, member->rank, frame->capture);
        return PHX_OK;
    case PHALANX__RANK_FRAME__BODY_FAILURE:
        return PHX_FAIL(
            err, frame->failure->code < PHX_CODE_COUNT ? (phx_code)frame->failure->code : PHX_ERR_INTERNAL,
            "rank %u on %s: %s", member->rank, member->host, frame->failure->text);
    default:
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "rank %u sent a message that ranks do not send", member->rank);
    }
}

static phx_code on_hello(phx_fleet *fleet, const phx_peer *peer, const Phalanx__Hello *hello, phx_error *err)
{
    if (fleet->phase != FLEET_GATHERING || hello->rank >= fleet->n_ranks || fleet->members[hello->rank].known)
        return PHX_FAIL(err, PHX_ERR_MISMATCH, "an unexpected rank %u of %u said hello from %s", hello->rank,
                        hello->n_ranks, hello->host);
    if (hello->n_ranks != fleet->n_ranks)
        return PHX_FAIL(err, PHX_ERR_MISMATCH,
                        "%u ranks were started, the layout needs %u (tp x pp): start %u workers",
                        hello->n_ranks, fleet->n_ranks, fleet->n_ranks);
    if (strcmp(hello->build, phx_build_id()) != 0)
        return PHX_FAIL(err, PHX_ERR_MISMATCH, "rank %u on %s runs build '%s', this is '%s'", hello->rank,
                        hello->host, hello->build, phx_build_id());
    phx_member_greet(&fleet->members[hello->rank], peer, hello);
    fleet->members[hello->rank].heard_us = now_us(fleet);
    for (uint32_t i = 0; i < fleet->n_ranks; i++) {
        if (!fleet->members[i].known)
            return PHX_OK;
    }
    return assign_all(fleet, err);
}

static phx_code send_frame(phx_fleet *fleet, const phx_member *member, Phalanx__RankFrame *frame,
                           phx_error *err)
{
    frame->epoch = fleet->epoch;
    phx_buf_clear(&fleet->wire);
    phx_code rc = phx_message_encode(&frame->base, &fleet->wire, err);
    if (rc == PHX_OK)
        rc = phx_link_send(fleet->link, &member->peer,
                           (phx_bytes){(const uint8_t *)fleet->wire.ptr, fleet->wire.n}, err);
    phx_loop_watch_kick(fleet->watch);
    return rc;
}

/* All ranks are here: levels fall to the highest common one, memory and threads to the least; then everyone
 * gets the same request and must come to the same plan. */
static phx_code assign_all(phx_fleet *fleet, phx_error *err)
{
    char numerics[512];
    phx_buf text;
    phx_plan_request *request = &fleet->options.request;
    phx_code rc = phx_member_agree(fleet->members, fleet->n_ranks, fleet->options.backend, request, err);
    if (rc == PHX_OK && fleet->options.no_graphs && !phx_numerics_on_device(&request->numerics))
        phx_log(PHX_LOG_INFO, "--graphs off changes nothing: the CPU records no steps");
    if (rc == PHX_OK)
        rc = phx_plan_build(fleet->options.checkpoint, request, &fleet->plan, err);
    if (rc != PHX_OK)
        return rc;
    request = &fleet->plan->request;
    phx_buf_init(&text, sizeof(numerics) - 1);
    phx_numerics_print(&request->numerics, &text);
    (void)phx_str_copy(numerics, sizeof(numerics), phx_buf_view(&text));
    phx_buf_done(&text);
    bool one_host = true;
    for (uint32_t i = 1; i < fleet->n_ranks; i++)
        one_host = one_host && strcmp(fleet->members[i].host, fleet->members[0].host) == 0;
    char segment[48];
    uint32_t layer_first[PHX_PP_MAX + 1], cpus[PHX_MEMBER_CPUS_MAX];
    (void)snprintf(segment, sizeof(segment), "%s-e%llu", fleet->options.run_dir->name,
                   (unsigned long long)fleet->epoch);
    for (uint32_t i = 0; i <= request->layout.pp; i++)
        layer_first[i] = (uint32_t)request->layout.layer_first[i];
    fleet->phase = FLEET_LOADING;
    for (uint32_t i = 0; i < fleet->n_ranks && rc == PHX_OK; i++) {
        Phalanx__RankFrame frame = PHALANX__RANK_FRAME__INIT;
        Phalanx__Assign assign = PHALANX__ASSIGN__INIT;
        assign.model_dir = (char *)(uintptr_t)phx_checkpoint_dir(fleet->options.checkpoint);
        assign.tp = request->layout.tp;
        assign.pp = request->layout.pp;
        assign.layer_first = layer_first;
        assign.n_layer_first = request->layout.pp + 1;
        assign.numerics = numerics;
        assign.n_threads = request->n_threads;
        assign.memory_bytes = request->memory_bytes;
        assign.n_context = request->n_context;
        assign.n_batch = request->n_batch;
        assign.n_step_tokens = request->n_step_tokens;
        assign.n_cache_tokens = request->n_cache_tokens;
        assign.n_drafts = request->n_drafts;
        assign.no_graphs = fleet->options.no_graphs;
        assign.plan_hash = (ProtobufCBinaryData){PHX_HASH_BYTES, fleet->plan->hash.bytes};
        assign.comm = (char *)(uintptr_t)(fleet->n_ranks == 1 ? "loop" : one_host ? "shm" : "mpi");
        assign.segment = segment;
        assign.timeout_ms = fleet->options.step_timeout_ms + VERB_TIMEOUT_SLACK_MS;
        assign.cpus = cpus;
        assign.n_cpus = phx_member_cpus(fleet->members, i, request->n_threads, cpus);
        assign.self_check = fleet->options.self_check;
        frame.body_case = PHALANX__RANK_FRAME__BODY_ASSIGN;
        frame.assign = &assign;
        rc = send_frame(fleet, &fleet->members[i], &frame, err);
    }
    return rc;
}

static phx_code on_ready(phx_fleet *fleet, phx_member *member, const Phalanx__Ready *ready, phx_error *err)
{
    const phx_hash numerics = phx_numerics_hash(&fleet->plan->request.numerics);
    if (ready->plan_hash.len != PHX_HASH_BYTES || ready->numerics_hash.len != PHX_HASH_BYTES ||
        memcmp(ready->plan_hash.data, fleet->plan->hash.bytes, PHX_HASH_BYTES) != 0 ||
        memcmp(ready->numerics_hash.data, numerics.bytes, PHX_HASH_BYTES) != 0)
        return PHX_FAIL(err, PHX_ERR_MISMATCH, "rank %u is ready with another plan or numerics profile",
                        member->rank);
    if (ready->resident_bytes != fleet->plan->ranks[member->rank].total_bytes)
        return PHX_FAIL(err, PHX_ERR_MISMATCH, "rank %u took %llu bytes, its plan says %llu", member->rank,
                        (unsigned long long)ready->resident_bytes,
                        (unsigned long long)fleet->plan->ranks[member->rank].total_bytes);
    member->ready = true;
    member->resident_bytes = ready->resident_bytes;
    if (member->rank == 0)
        phx_log(PHX_LOG_INFO, "kernels: %s", ready->kernels);
    for (uint32_t i = 0; i < fleet->n_ranks; i++) {
        if (!fleet->members[i].ready)
            return PHX_OK;
    }
    fleet->phase = FLEET_READY;
    fleet->sink.ready(fleet->sink.user, fleet->plan);
    return PHX_OK;
}

/* From the reporting rank the result, from the others the word that they are done with a step that captures.
 */
static phx_code on_result(phx_fleet *fleet, phx_member *member, const Phalanx__RankFrame *frame,
                          phx_error *err)
{
    const phx_layout *layout = &fleet->plan->request.layout;
    const uint32_t reporter = (layout->pp - 1) * layout->tp;
    member->done_step = frame->result->step;
    if (member->rank == reporter) {
        if (fleet->n_results == fleet->n_sent)
            return PHX_FAIL(err, PHX_ERR_MISMATCH, "rank %u answers step %llu, which was not asked",
                            member->rank, (unsigned long long)frame->result->step);
        const uint32_t n_rows_max = n_results_max(fleet);
        const uint64_t place = fleet->n_results % IN_FLIGHT_MAX;
        in_flight *oldest = &fleet->steps[place];
        const phx_code rc = phx_step_result_from_frame(frame, fleet->rows + place * n_rows_max, n_rows_max,
                                                       &oldest->result, err);
        if (rc != PHX_OK)
            return rc;
        fleet->n_results++;
    }
    deliver(fleet);
    return PHX_OK;
}

static bool all_done_with(const phx_fleet *fleet, uint64_t step)
{
    for (uint32_t i = 0; i < fleet->n_ranks; i++) {
        if (fleet->members[i].done_step < step)
            return false;
    }
    return true;
}

static void deliver(phx_fleet *fleet)
{
    while (fleet->n_delivered < fleet->n_results) {
        const in_flight *oldest = &fleet->steps[fleet->n_delivered % IN_FLIGHT_MAX];
        if (oldest->captures && !all_done_with(fleet, oldest->step))
            return;
        const phx_step_result result = oldest->result;
        fleet->n_delivered++;
        fleet->oldest_step_us = fleet->n_delivered < fleet->n_sent ? now_us(fleet) : 0;
        fleet->sink.result(fleet->sink.user, &result);
    }
}

phx_code phx_fleet_send_step(phx_fleet *fleet, const phx_step_plan *plan, phx_error *err)
{
    phx_step_plan stamped = *plan;
    stamped.epoch = fleet->epoch;
    phx_buf_clear(&fleet->wire);
    phx_code rc = phx_step_plan_encode(&stamped, &fleet->wire, err);
    for (uint32_t i = 0; i < fleet->n_ranks && rc == PHX_OK; i++)
        rc = phx_link_send(fleet->link, &fleet->members[i].peer,
                           (phx_bytes){(const uint8_t *)fleet->wire.ptr, fleet->wire.n}, err);
    phx_loop_watch_kick(fleet->watch);
    if (rc != PHX_OK)
        return rc;
    assert(fleet->n_sent - fleet->n_delivered < IN_FLIGHT_MAX);
    fleet->steps[fleet->n_sent % IN_FLIGHT_MAX] =
        (in_flight){.step = plan->step, .captures = plan->capture != 0};
    if (fleet->n_sent++ == fleet->n_delivered)
        fleet->oldest_step_us = now_us(fleet);
    return PHX_OK;
}

void phx_fleet_grant(phx_fleet *fleet, uint32_t rank, uint32_t n_parts)
{
    phx_error ignored = {0}; /* a rank that is gone needs no credit; its loss is noticed elsewhere */
    Phalanx__RankFrame frame = PHALANX__RANK_FRAME__INIT;
    Phalanx__CaptureCredit credit = PHALANX__CAPTURE_CREDIT__INIT;
    credit.n_parts = n_parts;
    frame.body_case = PHALANX__RANK_FRAME__BODY_CREDIT;
    frame.credit = &credit;
    (void)send_frame(fleet, &fleet->members[rank], &frame, &ignored);
}

/* ---- watching ---- */

static void tell_pause(phx_fleet *fleet)
{
    const uint64_t stood_us = fleet->clock.stood_us - fleet->stood_us;
    if (stood_us > 0)
        phx_log(PHX_LOG_WARN, "the coordinator stood still for %.1f s: deadlines of ranks move along",
                (double)(stood_us + PHX_STEADY_GAP_US) * 1e-6);
    fleet->stood_us += stood_us;
}

static phx_code watch_over(phx_fleet *fleet, phx_error *err)
{
    const uint64_t now = now_us(fleet);
    tell_pause(fleet);
    const uint64_t step_limit_us = (uint64_t)fleet->options.step_timeout_ms * 1000;
    if (fleet->phase == FLEET_GATHERING && !fleet->options.no_launch && now - fleet->started_us > HELLO_US)
        return PHX_FAIL(err, PHX_ERR_DEADLINE, "not all %u ranks said hello within %u s", fleet->n_ranks,
                        HELLO_US / 1000000);
    for (uint32_t i = 0; i < fleet->n_ranks; i++) {
        const phx_member *m = &fleet->members[i];
        if (m->known && now - m->heard_us > SILENCE_US)
            return PHX_FAIL(err, PHX_ERR_PEER_LOST, "rank %u on %s (process %u) has been silent for %u s", i,
                            m->host, m->pid, SILENCE_US / 1000000);
    }
    if (fleet->oldest_step_us && now - fleet->oldest_step_us > step_limit_us)
        return PHX_FAIL(err, PHX_ERR_PEER_LOST,
                        "a step has been running for more than %u ms: rank %u is the furthest behind",
                        fleet->options.step_timeout_ms, phx_member_slowest(fleet->members, fleet->n_ranks));
    return PHX_OK;
}

static void on_timer(void *user)
{
    phx_fleet *fleet = user;
    phx_error err = {0};
    if (fleet->phase < FLEET_ENDING) {
        if (watch_over(fleet, &err) != PHX_OK)
            phx_fleet_fail(fleet, &err);
    } else if (fleet->phase == FLEET_ENDING) {
        on_child(fleet);
        if (fleet->phase == FLEET_ENDING && now_us(fleet) > fleet->kill_at_us) {
            if (fleet->launcher > 0)
                (void)kill(-fleet->launcher, SIGKILL);
            for (uint32_t i = 0; i < fleet->n_ranks; i++)
                phx_member_kill(&fleet->members[i]);
        }
    }
    if (fleet->phase != FLEET_ENDED)
        phx_loop_timer_start(fleet->timer,
                             fleet->phase == FLEET_ENDING ? WATCH_PERIOD_US / 10 : WATCH_PERIOD_US);
}

static void on_child(void *user)
{
    phx_fleet *fleet = user;
    int status = 0;
    char text[128];
    phx_error err = {0};
    if (fleet->launcher > 0 && waitpid(fleet->launcher, &status, WNOHANG) == fleet->launcher) {
        fleet->launcher = 0;
        phx_launch_describe(status, text, sizeof(text));
        if (fleet->phase < FLEET_ENDING) {
            /* What the ranks said last may still wait in the socket, and it names the first cause. */
            while (on_readable(fleet))
                ;
            (void)PHX_FAIL(&err, PHX_ERR_PEER_LOST, "%s", text);
            phx_fleet_fail(fleet, &err);
        }
    }
    if (fleet->phase == FLEET_ENDING && all_gone(fleet)) {
        fleet->phase = FLEET_ENDED;
        phx_run_dir_sweep_segments(fleet->options.run_dir->name);
        fleet->sink.ended(fleet->sink.user);
    }
}

/* ---- ending ---- */

void phx_fleet_fail(phx_fleet *fleet, const phx_error *cause)
{
    if (fleet->told_lost || fleet->phase >= FLEET_ENDING)
        return;
    fleet->told_lost = true;
    end_group(fleet, 500);
    fleet->sink.lost(fleet->sink.user, cause);
}

void phx_fleet_shutdown(phx_fleet *fleet, uint32_t grace_ms)
{
    if (fleet->phase < FLEET_ENDING)
        end_group(fleet, grace_ms);
}

static void end_group(phx_fleet *fleet, uint32_t grace_ms)
{
    Phalanx__RankFrame frame = PHALANX__RANK_FRAME__INIT;
    Phalanx__Shutdown shutdown = PHALANX__SHUTDOWN__INIT;
    shutdown.reason = (char *)(uintptr_t) "the coordinator ends the group";
    frame.body_case = PHALANX__RANK_FRAME__BODY_SHUTDOWN;
    frame.shutdown = &shutdown;
    /* Ranks that have not said hello cannot be told; the launcher that is starting them can. */
    if (fleet->phase == FLEET_GATHERING && fleet->launcher > 0)
        (void)kill(fleet->launcher, SIGTERM);
    fleet->phase = FLEET_ENDING;
    fleet->kill_at_us = now_us(fleet) + (uint64_t)grace_ms * 1000;
    for (uint32_t i = 0; i < fleet->n_ranks; i++) {
        phx_error ignored = {0};
        if (fleet->members[i].known)
            (void)send_frame(fleet, &fleet->members[i], &frame, &ignored);
    }
    phx_loop_timer_start(fleet->timer, WATCH_PERIOD_US / 10);
}

static bool all_gone(phx_fleet *fleet)
{
    if (fleet->launcher > 0)
        return false;
    for (uint32_t i = 0; i < fleet->n_ranks; i++) {
        if (phx_member_alive(&fleet->members[i]))
            return false;
    }
    return true;
}

Phalanx__RankStatus **phx_fleet_status(phx_fleet *fleet, size_t *ret_n)
{
    *ret_n = fleet->n_ranks;
    return phx_member_status(fleet->members, fleet->n_ranks, fleet->plan);
}
