/* tests/fuzz/fuzz_frames.c - control frames of all three kinds; a step plan and a result out of them.
 * Input: 1 byte the kind, the rest the wire form. */
#include "tests/fuzz/fuzz.h"

#include "base/alloc.h"
#include "proto/codec.h"

#define WIRE_BYTES_MAX (64u << 20)

static const phx_step_limits limits = {
    .n_slots = 64, .n_step_tokens = 512, .n_blocks = 256, .n_context = 4096, .n_vocab = 32000};

typedef phx_code decode_fn(phx_bytes wire, void **ret_frame, phx_error *err);
typedef void free_fn(void *frame);

static phx_code decode_rank(phx_bytes wire, void **ret_frame, phx_error *err)
{
    Phalanx__RankFrame *frame = NULL;
    const phx_code rc = phx_rank_frame_decode(wire, &frame, err);
    *ret_frame = frame;
    return rc;
}

static phx_code decode_client(phx_bytes wire, void **ret_frame, phx_error *err)
{
    Phalanx__ClientFrame *frame = NULL;
    const phx_code rc = phx_client_frame_decode(wire, &frame, err);
    *ret_frame = frame;
    return rc;
}

static phx_code decode_server(phx_bytes wire, void **ret_frame, phx_error *err)
{
    Phalanx__ServerFrame *frame = NULL;
    const phx_code rc = phx_server_frame_decode(wire, &frame, err);
    *ret_frame = frame;
    return rc;
}

static void free_rank(void *frame)
{
    phx_rank_frame_free(frame);
}

static void free_client(void *frame)
{
    phx_client_frame_free(frame);
}

static void free_server(void *frame)
{
    phx_server_frame_free(frame);
}

static const struct {
    decode_fn *decode;
    free_fn *free;
} kinds[] = {{decode_rank, free_rank}, {decode_client, free_client}, {decode_server, free_server}};

/* What was accepted is encoded, read back, and then encoded the same. */
static void check_again(const ProtobufCMessage *message, size_t kind)
{
    phx_buf wire;
    phx_buf again;
    void *frame = NULL;
    phx_error err = {0};
    phx_buf_init(&wire, WIRE_BYTES_MAX);
    phx_buf_init(&again, WIRE_BYTES_MAX);
    fuzz_must(phx_message_encode(message, &wire, &err), &err);
    fuzz_must(kinds[kind].decode((phx_bytes){(const uint8_t *)wire.ptr, wire.n}, &frame, &err), &err);
    fuzz_must(phx_message_encode(frame, &again, &err), &err);
    FUZZ_CHECK(phx_str_eq(phx_buf_view(&wire), phx_buf_view(&again)));
    kinds[kind].free(frame);
    phx_buf_done(&wire);
    phx_buf_done(&again);
}

static void check_plan(const Phalanx__RankFrame *frame)
{
    phx_step_storage *storage = NULL;
    phx_step_plan plan;
    phx_error err = {0};
    phx_buf wire;
    fuzz_must(phx_step_storage_create(&limits, &storage, &err), &err);
    const phx_code rc = phx_step_plan_from_frame(frame, &limits, storage, &plan, &err);
    if (rc != PHX_OK) {
        fuzz_check_refusal(rc, &err);
        FUZZ_CHECK(phx_code_scope(rc) == PHX_SCOPE_REQUEST);
    } else {
        Phalanx__RankFrame *back = NULL;
        phx_buf_init(&wire, WIRE_BYTES_MAX);
        fuzz_must(phx_step_plan_check(&plan, &limits, &err), &err);
        fuzz_must(phx_step_plan_encode(&plan, &wire, &err), &err);
        fuzz_must(phx_rank_frame_decode((phx_bytes){(const uint8_t *)wire.ptr, wire.n}, &back, &err), &err);
        phx_rank_frame_free(back);
        phx_buf_done(&wire);
    }
    phx_step_storage_destroy(storage);
}

static void check_result(const Phalanx__RankFrame *frame)
{
    enum { N_ROWS = 8 };
    phx_row_result rows[N_ROWS];
    phx_step_result result;
    phx_error err = {0};
    phx_buf wire;
    const phx_code rc = phx_step_result_from_frame(frame, rows, N_ROWS, &result, &err);
    if (rc != PHX_OK) {
        fuzz_check_refusal(rc, &err);
        return;
    }
    FUZZ_CHECK(result.n_rows <= N_ROWS);
    phx_buf_init(&wire, WIRE_BYTES_MAX);
    fuzz_must(phx_step_result_encode(&result, &wire, &err), &err);
    phx_buf_done(&wire);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fuzz_tape tape = {data, n_bytes};
    const size_t kind = fuzz_u8(&tape) % 3;
    void *frame = NULL;
    phx_error err = {0};
    const phx_code rc = kinds[kind].decode(fuzz_rest(&tape), &frame, &err);
    if (rc != PHX_OK) {
        fuzz_check_refusal(rc, &err);
        FUZZ_CHECK(phx_code_scope(rc) == PHX_SCOPE_REQUEST);
        FUZZ_CHECK(frame == NULL);
        return 0;
    }
    check_again(frame, kind);
    if (kind == 0) {
        check_plan(frame);
        check_result(frame);
    }
    kinds[kind].free(frame);
    return 0;
}
