/* worker/rank_loop.c - the compute thread of a rank: take the assignment, make everything ready, then run
 * steps. Reading order: phx_rank_serve, prepare, run_steps; then worker/exec/step.c. */
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/paths.h"
#include "model/step_buf.h"
#include "proto/codec.h"
#include "worker/comm/comm_nccl.h"
#include "worker/exec/exec.h"
#include "worker/rank.h"

/* Everything that a rank builds from its assignment, in the order of building. */
struct phx_rank_engine {
    phx_rank *rank;
    phx_buf frame; /* the message in work */
    phx_buf wire;  /* the message being made */
    phx_checkpoint *checkpoint;
    phx_plan *plan;
    phx_pool *pool;
    phx_backend *cpu;     /* made when the numerics name a level of the CPU */
    phx_backend *backend; /* that one, or the rank's device */
    phx_comm_hub *hub;
    phx_comm *comm;
    phx_weights *weights;
    phx_kv_pool *kv;
    phx_exec *exec;
    phx_step_limits limits;
    phx_step_storage *storage;
    bool remarked;
};
typedef phx_rank_engine engine;

static phx_code take_assignment(engine *e, Phalanx__RankFrame **ret_frame, phx_error *err);
static phx_code prepare(engine *e, const Phalanx__Assign *assign, phx_error *err);
static bool choose_cpus(const Phalanx__Assign *assign, int *cpus);
static phx_code choose_backend(engine *e, const phx_numerics *numerics, phx_error *err);
static phx_code make_plan(engine *e, const Phalanx__Assign *assign, phx_error *err);
static phx_code make_comm(engine *e, const Phalanx__Assign *assign, phx_error *err);
static phx_code announce_ready(engine *e, phx_error *err);
static phx_code run_steps(engine *e, phx_error *err);
static phx_code run_one(engine *e, phx_error *err);
static phx_code capture(void *user, const phx_capture_piece *piece, phx_error *err);
static void report_failure(engine *e, const phx_error *cause);

phx_code phx_rank_serve(phx_rank *rank, phx_rank_engine **ret_engine, phx_error *err)
{
    Phalanx__RankFrame *assignment = NULL;
    engine *e = phx_alloc(1, sizeof(*e));
    if (!e)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "engine");
    *ret_engine = e;
    e->rank = rank;
    phx_buf_init(&e->frame, 16u << 20);
    phx_buf_init(&e->wire, 16u << 20);
    phx_code rc = take_assignment(e, &assignment, err);
    if (rc == PHX_OK)
        rc = prepare(e, assignment->assign, err);
    if (rc == PHX_OK)
        rc = announce_ready(e, err);
    if (rc == PHX_OK)
        rc = run_steps(e, err);
    if (rc != PHX_OK && rc != PHX_ERR_CANCELLED)
        report_failure(e, err);
    phx_rank_frame_free(assignment);
    return rc == PHX_ERR_CANCELLED ? PHX_OK : rc;
}

static phx_code take_assignment(engine *e, Phalanx__RankFrame **ret_frame, phx_error *err)
{
    const phx_code rc = phx_mailbox_pop(e->rank->inbox, -1, &e->frame, err);
    if (rc != PHX_OK)
        return rc;
    Phalanx__RankFrame *frame = NULL;
    const phx_code decoded =
        phx_rank_frame_decode((phx_bytes){(const uint8_t *)e->frame.ptr, e->frame.n}, &frame, err);
    if (decoded != PHX_OK)
        return decoded;
    if (frame->body_case != PHALANX__RANK_FRAME__BODY_ASSIGN) {
        phx_rank_frame_free(frame);
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "the first message of the coordinator must be an assignment");
    }
    *ret_frame = frame;
    return PHX_OK;
}

static phx_code record_steps(engine *e, phx_error *err)
{
    phx_buf text;
    const bool is_emu = strcmp(e->backend->name, "emu") == 0; /* slow, and nothing to load */
    const phx_code rc = phx_exec_record(e->exec, !is_emu, err);
    phx_buf_init(&text, 4096);
    if (rc == PHX_OK && e->rank->options.rank == 0 && phx_exec_describe_graphs(e->exec, &text) == PHX_OK)
        phx_log(PHX_LOG_INFO, "%s", text.ptr);
    phx_buf_clear(&text);
    if (rc == PHX_OK && phx_exec_is_short(e->exec, &text)) /* of whichever rank */
        phx_log(PHX_LOG_WARN, "%s", text.ptr);
    phx_buf_done(&text);
    return rc;
}

/* Said by the first rank, and by one that lacks what others may have. */
static phx_code choose_products(engine *e, phx_error *err)
{
    phx_buf text;
    phx_buf_init(&text, 4096);
    const phx_code rc = phx_exec_choose_products(e->exec, strcmp(e->backend->name, "emu") != 0, &text, err);
    if (rc == PHX_OK && text.n > 0 && (e->rank->options.rank == 0 || !phx_exec_rounds(e->exec)))
        phx_log(PHX_LOG_INFO, "%s", text.ptr);
    phx_buf_done(&text);
    return rc;
}

static phx_code prepare(engine *e, const Phalanx__Assign *assign, phx_error *err)
{
    phx_rank *rank = e->rank;
    int cpus[PHX_THREADS_MAX];
    atomic_store(&rank->phase, PHX_RANK_LOADING);
    phx_code rc = make_plan(e, assign, err);
    if (rc != PHX_OK)
        return rc;
    const bool pinned = choose_cpus(assign, cpus);
    rc = phx_pool_create(assign->n_threads, pinned ? cpus : NULL, &e->pool, err);
    if (rc == PHX_OK)
        rc = choose_backend(e, &e->plan->request.numerics, err);
    if (rc == PHX_OK)
        rc = make_comm(e, assign, err);
    const phx_weights_source source = {e->plan, rank->options.rank, e->pool, e->backend, NULL};
    if (rc == PHX_OK)
        rc = phx_weights_load(&source, &rank->load, &e->weights, err);
    if (rc == PHX_OK)
        rc = phx_kv_pool_create(e->plan, rank->options.rank, e->backend->device, &e->kv, err);
    if (rc != PHX_OK)
        return rc;
    const phx_exec_parts parts = {
        .plan = e->plan,
        .rank = rank->options.rank,
        .weights = e->weights,
        .kv = e->kv,
        .comm = e->comm,
        .backend = e->backend,
        .ops = &e->backend->ops,
        .sink = capture,
        .sink_user = e,
    };
    rc = phx_exec_create(&parts, &e->exec, err);
    if (rc != PHX_OK)
        return rc;
    const uint64_t scratch = (uint64_t)phx_pool_n_threads(e->pool) * PHX_SCRATCH_BYTES;
    atomic_store(&rank->resident_bytes, e->weights->resident_bytes + phx_kv_pool_bytes(e->kv) +
                                            phx_exec_bytes(e->exec) + (e->backend->device ? 0 : scratch) +
                                            e->plan->ranks[rank->options.rank].collectives_bytes);
    atomic_store(&rank->phase, PHX_RANK_CHECKING);
    rc = choose_products(e, err);
    if (rc == PHX_OK && assign->self_check)
        rc = phx_exec_self_check(e->exec, err);
    return rc == PHX_OK && e->backend->device && !assign->no_graphs ? record_steps(e, err) : rc;
}

uint32_t phx_rank_cpus(int *ret_cpus, uint32_t n_max)
{
    cpu_set_t allowed;
    uint32_t n = 0;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
        return 1;
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed))
            continue;
        if (ret_cpus && n < n_max)
            ret_cpus[n] = (int)cpu;
        n++;
    }
    return n ? n : 1;
}

/* The assignment counts processors from 0 among those that this process may use. False: no pinning. */
static bool choose_cpus(const Phalanx__Assign *assign, int *cpus)
{
    int allowed[PHX_THREADS_MAX];
    const uint32_t n_allowed = phx_rank_cpus(allowed, PHX_THREADS_MAX);
    if (assign->n_cpus < assign->n_threads || assign->n_cpus > PHX_THREADS_MAX)
        return false;
    for (size_t i = 0; i < assign->n_cpus; i++) {
        if (assign->cpus[i] >= n_allowed || assign->cpus[i] >= PHX_THREADS_MAX)
            return false;
        cpus[i] = allowed[assign->cpus[i]];
    }
    return true;
}

void phx_rank_open_device(phx_rank *rank)
{
    const char *name = rank->options.backend;
    const phx_device_request request = {
        .name = strcmp(name, "auto") == 0 ? "cuda" : name,
        .host_rank = rank->options.host_rank,
        .allow_unproven = rank->options.allow_unproven,
    };
    if (strcmp(name, "cpu") == 0)
        (void)PHX_FAIL(&rank->no_device, PHX_ERR_UNAVAILABLE, "started with --backend cpu");
    else
        (void)phx_backend_open(&request, &rank->device, &rank->no_device);
}

/* The level in the numerics says which backend the group has settled on. */
static phx_code choose_backend(engine *e, const phx_numerics *numerics, phx_error *err)
{
    const phx_rank *rank = e->rank;
    const char *asked = rank->options.backend;
    phx_level level;
    if (phx_numerics_on_device(numerics)) {
        if (!rank->device || strcmp(rank->device->level, numerics->level) != 0)
            return PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "level '%s' is asked for: %s", numerics->level,
                            rank->device ? rank->device->description : rank->no_device.text);
        e->backend = rank->device;
        return PHX_OK;
    }
    if (strcmp(asked, "cuda") == 0 || strcmp(asked, "emu") == 0)
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE,
                        "started with --backend %s, and the group computes on the CPU: give the server "
                        "--backend %s too",
                        asked, asked);
    if (!phx_level_parse(phx_str_of(numerics->level), &level) || level > phx_level_of_machine())
        return PHX_FAIL(err, PHX_ERR_UNSUPPORTED, "kernel level '%s' is not available on this machine",
                        numerics->level);
    const phx_code rc = phx_backend_cpu_create(e->pool, level, &e->cpu, err);
    e->backend = e->cpu;
    return rc;
}

static phx_code make_plan(engine *e, const Phalanx__Assign *assign, phx_error *err)
{
    phx_plan_request request = {
        .layout = {.tp = assign->tp, .pp = assign->pp},
        .memory_bytes = assign->memory_bytes,
        .n_threads = assign->n_threads,
        .n_context = assign->n_context,
        .n_batch = assign->n_batch,
        .n_step_tokens = assign->n_step_tokens,
        .n_cache_tokens = assign->n_cache_tokens,
        .n_drafts = assign->n_drafts,
    };
    if (assign->n_layer_first != assign->pp + 1 || assign->pp > PHX_PP_MAX)
        return PHX_FAIL(err, PHX_ERR_CORRUPT, "assignment of %u stages with %zu cuts", assign->pp,
                        assign->n_layer_first);
    for (uint32_t i = 0; i <= assign->pp; i++)
        request.layout.layer_first[i] = (int32_t)assign->layer_first[i];
    phx_code rc = phx_numerics_parse(phx_str_of(assign->numerics), &request.numerics, err);
    if (rc != PHX_OK)
        return rc;
    request.layout.experts = request.numerics.experts;
    rc = phx_checkpoint_open(assign->model_dir, &e->checkpoint, err);
    if (rc == PHX_OK)
        rc = phx_plan_build(e->checkpoint, &request, &e->plan, err);
    if (rc != PHX_OK)
        return rc;
    if (assign->plan_hash.len != PHX_HASH_BYTES ||
        memcmp(assign->plan_hash.data, e->plan->hash.bytes, PHX_HASH_BYTES) != 0)
        return PHX_FAIL(err, PHX_ERR_MISMATCH,
                        "rank %u computes another plan than the coordinator: '%s' differs between hosts",
                        e->rank->options.rank, assign->model_dir);
    e->limits = (phx_step_limits){
        .n_slots = e->plan->request.n_batch,
        .n_step_tokens = e->plan->request.n_step_tokens,
        .n_blocks = e->plan->n_blocks,
        .n_context = e->plan->n_context,
        .n_vocab = (uint32_t)phx_checkpoint_dims(e->checkpoint)->n_vocab,
        .n_drafts = e->plan->request.n_drafts,
    };
    return phx_step_storage_create(&e->limits, &e->storage, err);
}

/* The group that meets; over it, on one host or several, what moves device memory where there is a device. */
static phx_code make_group(engine *e, const Phalanx__Assign *assign, const phx_comm_shape *shape,
                           phx_error *err)
{
    phx_code rc;
    if (strcmp(assign->comm, "loop") == 0) {
        rc = phx_comm_hub_create(1, &e->hub, err);
        if (rc == PHX_OK)
            rc = phx_comm_loop_create(e->hub, shape, &e->comm, err);
    } else if (strcmp(assign->comm, "shm") == 0) {
        rc = phx_comm_shm_create(assign->segment, shape, &e->comm, err);
    } else if (strcmp(assign->comm, "mpi") == 0) {
        rc = e->rank->options.enter_mpi(err);
#ifdef PHX_WITH_MPI
        if (rc == PHX_OK)
            rc = phx_comm_mpi_create(shape, &e->comm, err);
#endif
    } else {
        rc = PHX_FAIL(err, PHX_ERR_CORRUPT, "unknown data plane '%s'", assign->comm);
    }
    return rc;
}

static phx_code add_device(engine *e, const phx_comm_shape *shape, phx_error *err)
{
    char stand_in[PHX_PATH_MAX];
    const bool is_emu = strcmp(e->backend->name, "emu") == 0;
    phx_comm_nccl_options options = {
        .device = e->backend->order,
        .stream = e->backend->stream,
        .any_order = !e->plan->request.numerics.deterministic,
        .queue_only = true, /* worker/exec waits, once for a step */
        .measure = !is_emu, /* the emulator's times say nothing */
        .no_peers = e->rank->options.no_peers,
    };
    phx_code rc = is_emu ? phx_path_beside("libnccl_emu.so", stand_in, sizeof(stand_in), err) : PHX_OK;
    if (rc != PHX_OK)
        return rc;
    options.library = is_emu ? stand_in : NULL;
    rc = phx_comm_nccl_create(e->comm, shape, &options, &e->comm, err);
    return rc == PHX_OK ? phx_comm_nccl_check(e->comm, err) : rc;
}

static phx_code make_comm(engine *e, const Phalanx__Assign *assign, phx_error *err)
{
    const uint32_t rank = e->rank->options.rank;
    const phx_step_bytes bytes = phx_step_buf_bytes(phx_checkpoint_dims(e->checkpoint), &e->plan->request,
                                                    &e->plan->ranks[rank], 0, 0);
    const phx_comm_shape shape = {
        .rank = rank,
        .tp = assign->tp,
        .pp = assign->pp,
        .exchange_bytes = bytes.exchange,
        .stage_bytes = bytes.stage,
        .note_bytes = bytes.note,
        .timeout_ms = assign->timeout_ms,
    };
    const bool on_device = e->backend->device != NULL;
    const phx_comm_shape group = on_device ? phx_comm_nccl_under_shape(&shape) : shape;
    phx_buf text;
    phx_code rc = make_group(e, assign, &group, err);
    if (rc == PHX_OK) /* already here, so that an abort also ends the connecting below */
        atomic_store(&e->rank->comm, e->comm);
    if (rc == PHX_OK && on_device)
        rc = add_device(e, &shape, err);
    if (rc != PHX_OK)
        return rc;
    atomic_store(&e->rank->comm, e->comm);
    phx_buf_init(&text, 4096);
    if (on_device && rank == 0 && e->plan->n_ranks > 1 && phx_comm_describe(e->comm, &text) == PHX_OK)
        phx_log(PHX_LOG_INFO, "%s", text.ptr);
    phx_buf_done(&text);
    return PHX_OK;
}

static phx_code post(engine *e, const ProtobufCMessage *message, phx_error *err)
{
    phx_buf_clear(&e->wire);
    const phx_code rc = phx_message_encode(message, &e->wire, err);
    if (rc != PHX_OK)
        return rc;
    return phx_mailbox_push(e->rank->outbox, (phx_bytes){(const uint8_t *)e->wire.ptr, e->wire.n}, err);
}

static phx_code announce_ready(engine *e, phx_error *err)
{
    phx_buf kernels;
    phx_hash numerics = phx_numerics_hash(&e->plan->request.numerics);
    Phalanx__RankFrame frame = PHALANX__RANK_FRAME__INIT;
    Phalanx__Ready ready = PHALANX__READY__INIT;
    phx_buf_init(&kernels, 4096);
    phx_ops_print(&e->backend->ops, &kernels);
    ready.kernels = kernels.ptr;
    ready.plan_hash = (ProtobufCBinaryData){PHX_HASH_BYTES, e->plan->hash.bytes};
    ready.numerics_hash = (ProtobufCBinaryData){PHX_HASH_BYTES, numerics.bytes};
    ready.resident_bytes = atomic_load(&e->rank->resident_bytes);
    frame.epoch = e->rank->options.epoch;
    frame.body_case = PHALANX__RANK_FRAME__BODY_READY;
    frame.ready = &ready;
    atomic_store(&e->rank->phase, PHX_RANK_READY);
    const phx_code rc = post(e, &frame.base, err);
    phx_buf_done(&kernels);
    return rc;
}

static phx_code run_steps(engine *e, phx_error *err)
{
    phx_code rc = PHX_OK;
    while (rc == PHX_OK) {
        rc = phx_mailbox_pop(e->rank->inbox, -1, &e->frame, err);
        if (rc == PHX_OK)
            rc = run_one(e, err);
    }
    return rc;
}

static phx_code run_one(engine *e, phx_error *err)
{
    phx_step_plan plan;
    phx_step_result result;
    Phalanx__RankFrame *frame = NULL;
    phx_code rc = phx_rank_frame_decode((phx_bytes){(const uint8_t *)e->frame.ptr, e->frame.n}, &frame, err);
    if (rc == PHX_OK)
        rc = phx_step_plan_from_frame(frame, &e->limits, e->storage, &plan, err);
    phx_rank_frame_free(frame);
    if (rc != PHX_OK)
        return rc;
    atomic_store(&e->rank->step, plan.step);
    rc = phx_exec_step(e->exec, &plan, &result, err);
    if (rc != PHX_OK)
        return rc;
    if (e->backend->remark[0] && !e->remarked)
        phx_log(PHX_LOG_WARN, "rank %u: %s", e->rank->options.rank, e->backend->remark);
    e->remarked = e->backend->remark[0] != '\0';
    atomic_store(&e->rank->step, 0);
    atomic_fetch_add(&e->rank->n_steps, 1);
    atomic_store(&e->rank->exchange_bytes, e->comm->traffic.exchange_bytes);
    atomic_store(&e->rank->n_verbs, e->comm->traffic.n_verbs);
    atomic_store(&e->rank->n_replays, phx_exec_n_replays(e->exec));
    const phx_rank_plan *mine = &e->plan->ranks[e->rank->options.rank];
    const bool reports = mine->stage == e->plan->request.layout.pp - 1 && mine->tp_rank == 0;
    if (!reports && !plan.capture)
        return PHX_OK;
    if (!reports) /* after a step that captures every rank says that its parts are out */
        result.n_rows = 0;
    phx_buf_clear(&e->wire);
    rc = phx_step_result_encode(&result, &e->wire, err);
    if (rc != PHX_OK)
        return rc;
    return phx_mailbox_push(e->rank->outbox, (phx_bytes){(const uint8_t *)e->wire.ptr, e->wire.n}, err);
}

/* Cuts a captured piece into parts of at most 1 MiB and sends each when the coordinator has granted credit
 * for it. */
static phx_code capture(void *user, const phx_capture_piece *piece, phx_error *err)
{
    engine *e = user;
    const size_t element = phx_dtype_bytes(piece->dtype), row_bytes = piece->n_cols * element;
    const uint32_t n_rows_max =
        row_bytes >= (1u << 20) ? 1 : (uint32_t)((1u << 20) / (row_bytes ? row_bytes : 1));
    uint8_t *packed = phx_alloc(n_rows_max * (row_bytes ? row_bytes : 1), 1);
    phx_code rc = packed ? PHX_OK : PHX_FAIL(err, PHX_ERR_NOMEM, "capture part");
    for (uint32_t r = 0; r < piece->n_rows && rc == PHX_OK; r += n_rows_max) {
        const uint32_t n = piece->n_rows - r < n_rows_max ? piece->n_rows - r : n_rows_max;
        for (uint32_t i = 0; i < n; i++)
            memcpy(packed + i * row_bytes,
                   (const uint8_t *)piece->data + (size_t)((int64_t)(r + i) * piece->stride) * element,
                   row_bytes);
        Phalanx__RankFrame frame = PHALANX__RANK_FRAME__INIT;
        Phalanx__CapturePart part = PHALANX__CAPTURE_PART__INIT;
        part.name = (char *)(uintptr_t)piece->name;
        part.dtype = (char *)(uintptr_t)phx_dtype_name(piece->dtype);
        part.request_id = piece->request_id;
        part.row_first = piece->row_first + r;
        part.n_rows = n;
        part.n_cols = piece->n_cols;
        part.col_first = piece->col_first;
        part.data = (ProtobufCBinaryData){n * row_bytes, packed};
        frame.epoch = e->rank->options.epoch;
        frame.body_case = PHALANX__RANK_FRAME__BODY_CAPTURE;
        frame.capture = &part;
        while (atomic_load(&e->rank->capture_credit) <= 0 && !atomic_load(&e->rank->stop))
            (void)usleep(200);
        if (atomic_load(&e->rank->stop)) {
            rc = PHX_FAIL(err, PHX_ERR_CANCELLED, "stopped while capturing");
            break;
        }
        atomic_fetch_sub(&e->rank->capture_credit, 1);
        rc = post(e, &frame.base, err);
    }
    phx_free(packed);
    return rc;
}

static void report_failure(engine *e, const phx_error *cause)
{
    phx_error ignored = {0};
    Phalanx__RankFrame frame = PHALANX__RANK_FRAME__INIT;
    Phalanx__Failure failure = PHALANX__FAILURE__INIT;
    failure.code = (uint32_t)cause->code;
    failure.place = (char *)(uintptr_t)cause->place;
    failure.text = (char *)(uintptr_t)cause->text;
    failure.step = atomic_load(&e->rank->step);
    frame.epoch = e->rank->options.epoch;
    frame.body_case = PHALANX__RANK_FRAME__BODY_FAILURE;
    frame.failure = &failure;
    (void)post(e, &frame.base, &ignored);
}

void phx_rank_engine_destroy(phx_rank_engine *e)
{
    if (!e)
        return;
    phx_exec_drop_graphs(e->exec);
    phx_comm_destroy(e->comm); /* ends what waits on the device for peers; memory goes only then */
    phx_exec_destroy(e->exec);
    phx_kv_pool_destroy(e->kv);
    phx_weights_destroy(e->weights);
    phx_comm_hub_destroy(e->hub);
    phx_backend_destroy(e->cpu);
    phx_pool_destroy(e->pool);
    phx_step_storage_destroy(e->storage);
    phx_plan_destroy(e->plan);
    phx_checkpoint_close(e->checkpoint);
    phx_buf_done(&e->frame);
    phx_buf_done(&e->wire);
    phx_free(e);
}
