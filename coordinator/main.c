/* coordinator/main.c - phalanx-coordinator: plans, starts the ranks, schedules, answers clients.
 * Reading order: main, open_model, open_doors, serve, then engine.c. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/descriptors.h"
#include "base/log.h"
#include "base/options.h"
#include "base/paths.h"
#include "coordinator/address.h"
#include "coordinator/api/api.h"
#include "coordinator/engine_private.h"
#include "model/request_options.h"

/* the longest step that is not a hang: a full prefill of the largest models on few cores */
#define STEP_TIMEOUT_MS 120000u
#define MEMORY_UNKNOWN  ((uint64_t)1 << 40) /* more than a GPU has */
#define RANK_GRACE_MS   3000u
#define LAST_WORDS_US   1000000u /* for error events to leave */

/* Exit codes, also in --help. */
enum { EXIT_FINE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_REFUSED = 3, EXIT_ADDRESS = 4, EXIT_GROUP = 5 };

static const char exit_codes[] = "  0  ended in order\n"
                                 "  1  failed to start\n"
                                 "  2  wrong usage\n"
                                 "  3  the model or the plan was refused\n"
                                 "  4  an address is in use\n"
                                 "  5  the rank group failed and was not relaunched\n";

typedef struct coordinator {
    phx_options options;
    char model_dir[PHX_PATH_MAX];
    char worker_path[PHX_PATH_MAX];
    char state_dir[PHX_PATH_MAX];
    char hosts[PHX_OPTION_TEXT_BYTES];
    const char *lifeline; /* --lifeline-fd: a pipe whose closing ends us */
    phx_run_dir run_dir;
    phx_loop *loop;
    phx_checkpoint *checkpoint;
    phx_plan_request request;
    phx_model_text text;
    phx_engine *engine;
    phx_api *api;
    phx_http *http;
    char http_address[300];
    phx_loop_signal *signals[2];
    phx_loop_timer *drain_timer;
    phx_loop_watch *lifeline_watch;
    phx_loop_timer *end_timer;
    int lifeline_fd;
    bool draining;
    bool ending;
    int exit_code;
} coordinator;

static int parse(coordinator *c, int argc, char **argv);
static phx_code open_model(coordinator *c, phx_error *err);
static phx_code open_doors(coordinator *c, phx_error *err);
static phx_code start_engine(coordinator *c, phx_error *err);
static phx_code watch_for_the_end(coordinator *c, phx_error *err);
static void close_all(coordinator *c);
static phx_code make_engine(coordinator *c, phx_error *err);
static phx_code open_control(coordinator *c, const char *xdg, phx_error *err);
static phx_code open_http(coordinator *c, phx_error *err);
static void drain(void *user, uint32_t timeout_ms);

int main(int argc, char **argv)
{
    static coordinator c; /* large, and one per process */
    phx_error err = {0};
    const int usage = parse(&c, argc, argv);
    if (usage >= 0)
        return usage;
    phx_code rc = phx_descriptors_raise(&err);
    if (rc == PHX_OK) {
        rc = open_model(&c, &err);
        c.exit_code = rc == PHX_OK ? EXIT_FINE : rc == PHX_ERR_INVALID ? EXIT_USAGE : EXIT_REFUSED;
    }
    if (rc == PHX_OK)
        rc = open_doors(&c, &err);
    if (rc == PHX_OK)
        rc = start_engine(&c, &err);
    if (rc == PHX_OK)
        rc = phx_loop_run(c.loop, &err);
    if (rc != PHX_OK) {
        phx_log_error("cannot serve", &err);
        if (c.exit_code == EXIT_FINE)
            c.exit_code = rc == PHX_ERR_IN_USE    ? EXIT_ADDRESS
                          : rc == PHX_ERR_INVALID ? EXIT_USAGE /* an address, a template */
                                                  : EXIT_FAILED;
    }
    close_all(&c);
    return c.exit_code;
}

/* -1: go on; otherwise the exit code. */
static int parse(coordinator *c, int argc, char **argv)
{
    phx_args args;
    phx_error err = {0};
    phx_log_level level = PHX_LOG_INFO;
    const phx_flag flags[] = {{"lifeline-fd", "N",
                               "end when this descriptor closes (for programs that start a server)",
                               &c->lifeline, NULL}};
    const phx_args_spec spec = {
        .usage = "phalanx-coordinator [--config FILE] [options]",
        .about = "Serves a model: plans, starts the ranks, schedules and answers clients. `phalanx serve` "
                 "starts it.",
        .scopes = PHX_OPTIONS_ALL,
        .flags = flags,
        .n_flags = 1,
        .exit_codes = exit_codes,
    };
    phx_options_init(&c->options);
    if (phx_options_parse_args(&c->options, argc, argv, &spec, &args, &err) != PHX_OK) {
        (void)fprintf(stderr, "phalanx-coordinator: %s\n", err.text);
        return EXIT_USAGE;
    }
    if (args.help) {
        phx_buf help;
        phx_buf_init(&help, 1u << 20);
        phx_options_help(&spec, &help);
        (void)fputs(help.ptr ? help.ptr : "", stdout);
        phx_buf_done(&help);
        return EXIT_FINE;
    }
    (void)phx_log_level_parse(c->options.log_level, &level);
    phx_log_init("coordinator", level);
    return -1;
}

/* The coordinator has no CUDA; the driver's node says enough for a first plan. */
static bool may_have_gpus(const phx_options *options)
{
    if (strcmp(options->backend, "auto") == 0 && strcmp(options->level, "auto") == 0)
        return access("/dev/nvidiactl", F_OK) == 0;
    return strcmp(options->backend, "cuda") == 0;
}

/* A config that forgets a part of the model (shared experts, an indexer) makes another model of the same
 * files. */
static void tell_left_out(const phx_checkpoint *checkpoint)
{
    const phx_checkpoint_totals totals = phx_checkpoint_count_all(checkpoint);
    if (totals.n_extra == 0)
        return;
    const phx_str first = phx_checkpoint_extra(checkpoint, 0);
    phx_log(
        PHX_LOG_WARN,
        "%llu tensors are not used, because config.json asks for none of them; the first is '%.*s'. If they "
        "belong to the model, its answers are wrong: see phalanx inspect",
        (unsigned long long)totals.n_extra, PHX_STR_ARG(first));
}

/* Everything that can be refused before a process is started: model, layout, memory. Prints the plan. */
static phx_code open_model(coordinator *c, phx_error *err)
{
    phx_plan *plan = NULL;
    phx_buf text;
    phx_code rc = PHX_OK;
    if (c->options.model[0])
        (void)snprintf(c->model_dir, sizeof(c->model_dir), "%s", c->options.model);
    else
        rc = phx_path_demo(c->model_dir, sizeof(c->model_dir), err);
    if (rc == PHX_OK)
        rc = phx_checkpoint_open(c->model_dir, &c->checkpoint, err);
    if (rc == PHX_OK)
        rc = phx_plan_request_from_options(&c->options, phx_checkpoint_dims(c->checkpoint), &c->request, err);
    if (rc == PHX_OK)
        rc = phx_hosts_list(c->options.hosts, c->hosts, sizeof(c->hosts), err);
    if (rc != PHX_OK)
        return rc;
    const phx_dims *dims = phx_checkpoint_dims(c->checkpoint);
    phx_plan_request request = c->request;
    if (may_have_gpus(&c->options)) { /* their memory is known when the ranks have said hello */
        (void)snprintf(request.numerics.level, sizeof(request.numerics.level), "sm");
        request.memory_bytes = request.memory_bytes ? request.memory_bytes : MEMORY_UNKNOWN;
    }
    rc = phx_plan_build(c->checkpoint, &request, &plan, err);
    if (rc != PHX_OK)
        return rc;
    phx_buf_init(&text, 1u << 20);
    tell_left_out(c->checkpoint);
    phx_plan_print(plan, &text);
    for (char *line = text.ptr, *end; line && (end = strchr(line, '\n')); line = end + 1)
        phx_log(PHX_LOG_INFO, "%.*s", (int)(end - line), line);
    phx_buf_done(&text);
    const phx_model_text_from from = {.model_dir = c->model_dir,
                                      .name = c->options.model_name,
                                      .chat_format = c->options.chat_format,
                                      .dims = dims,
                                      .n_context = plan->n_context};
    rc = phx_model_text_load(&from, &c->text, err);
    phx_plan_destroy(plan);
    return rc;
}

static void drain(void *user, uint32_t timeout_ms);

/* Addresses are taken before anything loads, so that one in use is known at once. */
static phx_code open_doors(coordinator *c, phx_error *err)
{
    char runtime[PHX_PATH_MAX];
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    phx_code rc = phx_path_runtime(xdg, runtime, sizeof(runtime), err);
    if (rc == PHX_OK)
        rc = phx_path_make_private(runtime, err);
    if (rc == PHX_OK)
        rc = phx_run_dir_create(runtime, &c->run_dir, err);
    if (rc == PHX_OK)
        rc = phx_loop_create(&c->loop, err);
    if (rc == PHX_OK)
        rc = watch_for_the_end(c, err); /* from here on there is something to end in order */
    if (rc == PHX_OK)
        rc = make_engine(c, err);
    const phx_api_options api = {
        .loop = c->loop,
        .engine = c->engine,
        .http_address = c->http_address,
        .drain = drain,
        .drain_user = c,
    };
    if (rc == PHX_OK)
        rc = phx_api_create(&api, &c->api, err);
    if (rc == PHX_OK)
        rc = open_control(c, xdg, err);
    if (rc == PHX_OK && strcmp(c->options.http, "off") != 0)
        rc = open_http(c, err);
    return rc;
}

static phx_code open_control(coordinator *c, const char *xdg, phx_error *err)
{
    char address[PHX_PATH_MAX];
    phx_link_keys keys;
    phx_link *link = NULL;
    phx_code rc = PHX_OK;
    if (c->options.control[0])
        (void)snprintf(address, sizeof(address), "%s", c->options.control);
    else
        rc = phx_path_control(xdg, address, sizeof(address), err);
    const bool tcp = strncmp(address, "tcp:", 4) == 0;
    if (rc == PHX_OK && tcp && !c->options.key_file[0])
        rc = PHX_FAIL(err, PHX_ERR_INVALID, "--control %s needs --key-file: the file that clients will use",
                      address);
    if (rc == PHX_OK && tcp)
        rc = phx_link_keys_make(&keys, err);
    if (rc == PHX_OK && tcp)
        rc = phx_link_keys_write(&keys, c->options.key_file, err);
    if (rc == PHX_OK)
        rc = phx_link_bind(address, tcp ? &keys : NULL, &link, err);
    if (rc != PHX_OK)
        return rc;
    phx_log(PHX_LOG_INFO, "control: %s", phx_link_address(link));
    if (!tcp)
        rc = phx_run_dir_keep_socket(&c->run_dir, phx_link_address(link) + strlen("ipc://"), err);
    if (rc != PHX_OK) {
        phx_link_close(link);
        return rc;
    }
    return phx_api_serve_control(c->api, link, err);
}

static phx_code open_http(coordinator *c, phx_error *err)
{
    char host[256];
    uint16_t port = 0;
    size_t n_routes = 0;
    phx_code rc = phx_address_split(c->options.http, host, sizeof(host), &port, err);
    if (rc != PHX_OK)
        return rc;
    const phx_http_route *routes = phx_api_routes(c->api, &n_routes);
    const phx_http_options options = {
        .loop = c->loop,
        .host = host,
        .port = port,
        .key_file = c->options.api_key_file[0] ? c->options.api_key_file : NULL,
        .insecure_no_auth = c->options.insecure_no_auth,
        .routes = routes,
        .n_routes = n_routes,
    };
    rc = phx_http_create(&options, &c->http, err);
    if (rc != PHX_OK)
        return rc;
    if (c->options.insecure_no_auth)
        phx_log(PHX_LOG_WARN, "--insecure-no-auth: anybody who reaches %s may use this server",
                c->options.http);
    (void)snprintf(c->http_address, sizeof(c->http_address), "http://%s:%u", host, phx_http_port(c->http));
    phx_api_set_http(c->api, c->http);
    return PHX_OK;
}

/* ---- the engine ---- */

static void on_state(void *user, const phx_error *cause)
{
    coordinator *c = user;
    if (cause || c->ending) /* the engine has logged the cause, and on_ended follows when it stays down */
        return;
    c->text.n_context = phx_engine_plan(c->engine)->n_context;
    phx_api_set_text(c->api, &c->text);
    phx_log(PHX_LOG_INFO, "ready: %s, context %u%s%s", c->text.name, c->text.n_context, c->http ? ", " : "",
            c->http_address);
}

static void stop_loop(void *user)
{
    phx_loop_stop(((coordinator *)user)->loop);
}

/* No process of the group is left. After a failure clients still get their error events before the loop ends.
 */
static void on_ended(void *user)
{
    coordinator *c = user;
    if (!c->ending)
        c->exit_code = EXIT_GROUP;
    c->ending = true;
    if (c->http) {
        phx_http_stop(c->http, (phx_loop_call){stop_loop, c});
        phx_loop_timer_start(c->end_timer, LAST_WORDS_US);
    } else {
        phx_loop_timer_start(c->end_timer, LAST_WORDS_US / 10);
    }
}

static phx_code make_engine(coordinator *c, phx_error *err)
{
    phx_code rc = phx_path_beside("phalanx-worker", c->worker_path, sizeof(c->worker_path), err);
    if (rc != PHX_OK)
        return rc;
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (state && state[0])
        (void)snprintf(c->state_dir, sizeof(c->state_dir), "%s/phalanx", state);
    else if (home && home[0])
        (void)snprintf(c->state_dir, sizeof(c->state_dir), "%s/.local/state/phalanx", home);
    if (c->state_dir[0] && phx_path_make_all(c->state_dir) != PHX_OK)
        c->state_dir[0] = 0; /* a home that cannot be written only costs the canary */
    phx_engine_options options = {
        .fleet =
            {
                .loop = c->loop,
                .run_dir = &c->run_dir,
                .checkpoint = c->checkpoint,
                .request = c->request,
                .worker_path = c->worker_path,
                .launch_template = c->options.launch[0] ? c->options.launch : NULL,
                .hosts = c->hosts[0] ? c->hosts : NULL,
                .address = c->options.ranks_address[0] ? c->options.ranks_address : NULL,
                .key_file = c->options.ranks_key_file[0] ? c->options.ranks_key_file : NULL,
                .no_launch = c->options.no_launch,
                .self_check = c->options.self_check,
                .backend = strcmp(c->options.level, "auto") == 0 ? c->options.backend : "cpu",
                .allow_unproven = c->options.allow_unproven,
                .no_graphs = !c->options.graphs,
                .step_timeout_ms = STEP_TIMEOUT_MS,
            },
        .n_queue_max = c->options.queue,
        .n_queue_tokens_max = c->options.queue_tokens,
        .drafts_fixed = c->options.drafts != 0,
        .relaunch = c->options.relaunch,
        .state_dir = c->state_dir[0] && c->options.self_check ? c->state_dir : NULL,
        .on_state = on_state,
        .on_ended = on_ended,
        .user = c,
    };
    if (strcmp(c->options.level, "auto") == 0)
        options.fleet.request.numerics.level[0] = 0; /* the group agrees on the best that all ranks have */
    return phx_engine_create(&options, &c->engine, err);
}

static phx_code start_engine(coordinator *c, phx_error *err)
{
    const phx_code rc = phx_engine_start(c->engine, err);
    if (rc == PHX_OK && c->options.no_launch) {
        const char *key = phx_engine_ranks_key_file(c->engine);
        phx_log(PHX_LOG_INFO, "waiting for %u ranks: mpirun -n %u phalanx-worker --coordinator %s%s%s%s%s",
                phx_layout_n_ranks(&c->request.layout), phx_layout_n_ranks(&c->request.layout),
                phx_engine_ranks_address(c->engine), key ? " --key-file " : "", key ? key : "",
                strcmp(c->options.backend, "auto") == 0 ? "" : " --backend ",
                strcmp(c->options.backend, "auto") == 0 ? "" : c->options.backend);
    }
    return rc;
}

/* ---- the end ---- */

static void end_now(void *user)
{
    coordinator *c = user;
    if (c->ending) {
        phx_loop_stop(c->loop);
        return;
    }
    c->ending = true;
    phx_engine_shutdown(c->engine, RANK_GRACE_MS);
}

static void on_bodies_done(void *user)
{
    const coordinator *c = user;
    if (!c->ending) /* else the time to drain has passed */
        end_now(user);
}

static void on_drained(void *user)
{
    coordinator *c = user;
    phx_api_await_bodies(c->api, (phx_loop_call){on_bodies_done, c});
}

/* Refuses new work, lets the running finish, then ends the ranks. Asked twice, it ends at once. */
static void drain(void *user, uint32_t timeout_ms)
{
    coordinator *c = user;
    if (c->draining) {
        end_now(c);
        return;
    }
    c->draining = true;
    phx_log(PHX_LOG_INFO, "draining for at most %u s", (timeout_ms + 999) / 1000);
    phx_loop_timer_start(c->drain_timer, (uint64_t)timeout_ms * 1000);
    phx_engine_drain(c->engine, (phx_loop_call){on_drained, c});
}

static void on_signal(void *user)
{
    coordinator *c = user;
    drain(c, c->options.drain_timeout * 1000);
}

static bool on_lifeline(void *user)
{
    coordinator *c = user;
    char byte;
    if (read(c->lifeline_fd, &byte, 1) != 0)
        return false;
    phx_loop_watch_destroy(c->lifeline_watch);
    c->lifeline_watch = NULL;
    end_now(c);
    return false;
}

static phx_code watch_for_the_end(coordinator *c, phx_error *err)
{
    const phx_loop_signal_spec term = {SIGTERM, on_signal, c}, interrupt = {SIGINT, on_signal, c};
    uint64_t fd = 0;
    phx_code rc = phx_loop_signal_create(c->loop, &term, &c->signals[0], err);
    if (rc == PHX_OK)
        rc = phx_loop_signal_create(c->loop, &interrupt, &c->signals[1], err);
    if (rc == PHX_OK)
        rc = phx_loop_timer_create(c->loop, (phx_loop_call){end_now, c}, &c->drain_timer, err);
    if (rc == PHX_OK)
        rc = phx_loop_timer_create(c->loop, (phx_loop_call){stop_loop, c}, &c->end_timer, err);
    if (rc != PHX_OK || !c->lifeline)
        return rc;
    if (!phx_str_to_u64(phx_str_of(c->lifeline), 0, 1u << 20, &fd))
        return PHX_FAIL(err, PHX_ERR_INVALID, "--lifeline-fd '%s' is not a descriptor", c->lifeline);
    c->lifeline_fd = (int)fd;
    (void)fcntl(c->lifeline_fd, F_SETFD, FD_CLOEXEC); /* children must not keep it open */
    (void)fcntl(c->lifeline_fd, F_SETFL, fcntl(c->lifeline_fd, F_GETFL) | O_NONBLOCK);
    const phx_loop_watch_spec spec = {c->lifeline_fd, on_lifeline, c};
    return phx_loop_watch_create(c->loop, &spec, &c->lifeline_watch, err);
}

static void close_all(coordinator *c)
{
    phx_http_destroy(c->http);
    phx_api_destroy(c->api);
    phx_engine_destroy(c->engine);
    phx_loop_watch_destroy(c->lifeline_watch);
    phx_loop_timer_destroy(c->drain_timer);
    phx_loop_timer_destroy(c->end_timer);
    phx_loop_signal_destroy(c->signals[0]);
    phx_loop_signal_destroy(c->signals[1]);
    phx_loop_destroy(c->loop);
    phx_model_text_done(&c->text);
    phx_checkpoint_close(c->checkpoint);
    if (c->run_dir.path[0])
        phx_run_dir_destroy(&c->run_dir);
}
