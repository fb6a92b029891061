/* tests/proto/test_codec.c - every message there and back, every limit at and one past it, hostile bytes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "proto/check.h"
#include "proto/codec.h"
#include "proto/limits.h"

#define N_MUTATIONS 100000

static const ProtobufCMessageDescriptor *const frames[] = {
    &phalanx__rank_frame__descriptor, &phalanx__client_frame__descriptor, &phalanx__server_frame__descriptor};

/* ---------------------------------------------------------------- messages filled by reflection */

/* Builds messages from descriptors: every field set, each repeated field with two elements, values from rng
 * and valid. */
typedef struct filler {
    phx_rng rng;
    void *blocks[4096];
    size_t n_blocks;
} filler;

static void *take(filler *f, size_t n, size_t bytes)
{
    assert_true(f->n_blocks < sizeof(f->blocks) / sizeof(f->blocks[0]));
    void *ptr = phx_alloc(n, bytes);
    assert_non_null(ptr);
    f->blocks[f->n_blocks++] = ptr;
    return ptr;
}

static void filler_done(filler *f)
{
    for (size_t i = 0; i < f->n_blocks; i++)
        phx_free(f->blocks[i]);
    f->n_blocks = 0;
}

static ProtobufCMessage *fill_message(filler *f, const ProtobufCMessageDescriptor *descriptor,
                                      unsigned member);

static size_t value_bytes(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    default:
        return 4;
    }
}

static void fill_value(filler *f, const ProtobufCFieldDescriptor *field, void *value)
{
    static const char text[] = "h\xC3\xA9llo"; /* "hello" with an accent */
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING: {
        char *copy = take(f, 1, sizeof(text));
        memcpy(copy, text, sizeof(text));
        memcpy(value, &copy, sizeof(copy));
        break;
    }
    case PROTOBUF_C_TYPE_BYTES: {
        const ProtobufCBinaryData bytes = {.len = 16, .data = take(f, 1, 16)};
        memcpy(value, &bytes, sizeof(bytes));
        break;
    }
    case PROTOBUF_C_TYPE_MESSAGE: {
        ProtobufCMessage *message = fill_message(f, field->descriptor, 0);
        memcpy(value, &message, sizeof(message));
        break;
    }
    case PROTOBUF_C_TYPE_UINT32: {
        const uint32_t number = 1 + phx_rng_below(&f->rng, 7);
        memcpy(value, &number, 4);
        break;
    }
    case PROTOBUF_C_TYPE_UINT64: {
        const uint64_t number = phx_rng_u64(&f->rng);
        memcpy(value, &number, 8);
        break;
    }
    case PROTOBUF_C_TYPE_FLOAT: {
        const float number = phx_rng_unit(phx_rng_u64(&f->rng));
        memcpy(value, &number, 4);
        break;
    }
    case PROTOBUF_C_TYPE_DOUBLE: {
        const double number = (double)phx_rng_unit(phx_rng_u64(&f->rng));
        memcpy(value, &number, 8);
        break;
    }
    case PROTOBUF_C_TYPE_BOOL:
    case PROTOBUF_C_TYPE_ENUM: {
        const int number = 1;
        memcpy(value, &number, 4);
        break;
    }
    default:
        fail_msg("field %s has a type that control.proto does not use", field->name);
    }
}

/* Values that the rules of single messages want. */
static void obey_rules(filler *f, ProtobufCMessage *message)
{
    if (message->descriptor == &phalanx__capture_part__descriptor) {
        Phalanx__CapturePart *part = (Phalanx__CapturePart *)message;
        memcpy(part->dtype, "F32", 4);
        part->n_rows = part->n_cols = 2;
    }
    if (message->descriptor == &phalanx__hello__descriptor)
        ((Phalanx__Hello *)message)->n_ranks = ((Phalanx__Hello *)message)->rank + 1;
    if (message->descriptor == &phalanx__assign__descriptor) {
        Phalanx__Assign *assign = (Phalanx__Assign *)message;
        assign->pp = 1;
        assign->layer_first[0] = 0;
        memcpy(assign->comm, "shm", 4);
    }
    (void)f;
}

/* member: field id of the oneof member to set; 0 takes the first. */
static ProtobufCMessage *fill_message(filler *f, const ProtobufCMessageDescriptor *descriptor,
                                      unsigned member)
{
    ProtobufCMessage *message = take(f, 1, descriptor->sizeof_message);
    protobuf_c_message_init(descriptor, message);
    char *base = (char *)message;
    bool has_member = false;
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
            if (has_member || (member != 0 && member != field->id))
                continue;
            has_member = true;
            const uint32_t chosen = field->id;
            memcpy(base + field->quantifier_offset, &chosen, sizeof(chosen));
        }
        if (field->label != PROTOBUF_C_LABEL_REPEATED) {
            fill_value(f, field, base + field->offset);
            continue;
        }
        const size_t n = 2;
        char *array = take(f, n, value_bytes(field->type));
        for (size_t j = 0; j < n; j++)
            fill_value(f, field, array + j * value_bytes(field->type));
        memcpy(base + field->quantifier_offset, &n, sizeof(n));
        memcpy(base + field->offset, &array, sizeof(array));
    }
    obey_rules(f, message);
    return message;
}

static phx_code decode_and_free(const ProtobufCMessageDescriptor *descriptor, phx_bytes wire, phx_buf *again)
{
    phx_error err = {0};
    phx_code rc;
    if (descriptor == &phalanx__rank_frame__descriptor) {
        Phalanx__RankFrame *frame = NULL;
        rc = phx_rank_frame_decode(wire, &frame, &err);
        if (rc == PHX_OK && again)
            assert_int_equal(phx_message_encode(&frame->base, again, &err), PHX_OK);
        phx_rank_frame_free(frame);
    } else if (descriptor == &phalanx__client_frame__descriptor) {
        Phalanx__ClientFrame *frame = NULL;
        rc = phx_client_frame_decode(wire, &frame, &err);
        if (rc == PHX_OK && again)
            assert_int_equal(phx_message_encode(&frame->base, again, &err), PHX_OK);
        phx_client_frame_free(frame);
    } else {
        Phalanx__ServerFrame *frame = NULL;
        rc = phx_server_frame_decode(wire, &frame, &err);
        if (rc == PHX_OK && again)
            assert_int_equal(phx_message_encode(&frame->base, again, &err), PHX_OK);
        phx_server_frame_free(frame);
    }
    if (rc != PHX_OK) {
        assert_int_equal(err.code, rc);
        assert_true(err.text[0] != 0);
        assert_int_equal(phx_code_scope(rc), PHX_SCOPE_REQUEST);
    }
    return rc;
}

static phx_bytes bytes_of(const phx_buf *buf)
{
    return (phx_bytes){(const uint8_t *)buf->ptr, buf->n};
}

/* Encodes the i-th body of a frame type; false past the last. */
static bool encode_body(unsigned frame, unsigned body, phx_buf *wire)
{
    static const unsigned first_body_id = 10;
    filler f = {.rng = {.seed = 1000u * frame + body}};
    unsigned n = 0;
    bool found = false;
    for (unsigned i = 0; i < frames[frame]->n_fields && !found; i++) {
        const ProtobufCFieldDescriptor *field = &frames[frame]->fields[i];
        if (field->id < first_body_id || n++ != body)
            continue;
        phx_error err = {0};
        ProtobufCMessage *message = fill_message(&f, frames[frame], field->id);
        if (phx_message_encode(message, wire, &err) != PHX_OK)
            fail_msg("%s.%s: %s", frames[frame]->name, field->name, err.text);
        found = true;
    }
    filler_done(&f);
    return found;
}

static void test_every_body_there_and_back(void **state)
{
    (void)state;
    unsigned n_bodies = 0;
    const uint64_t n_live = phx_alloc_count().n_live;
    for (unsigned frame = 0; frame < 3; frame++) {
        phx_buf wire, again;
        phx_buf_init(&wire, 1 << 20);
        phx_buf_init(&again, 1 << 20);
        for (unsigned body = 0; encode_body(frame, body, &wire); body++, n_bodies++) {
            assert_int_equal(decode_and_free(frames[frame], bytes_of(&wire), &again), PHX_OK);
            assert_int_equal(wire.n, again.n);
            assert_memory_equal(wire.ptr, again.ptr, wire.n);
            phx_buf_clear(&wire);
            phx_buf_clear(&again);
        }
        phx_buf_done(&wire);
        phx_buf_done(&again);
    }
    assert_int_equal(n_bodies, 6 + 5 + 12);
    assert_int_equal(phx_alloc_count().n_live, n_live);
}

/* ---------------------------------------------------------------- limits */

typedef struct limit_case {
    const ProtobufCMessageDescriptor *message;
    const char *field;
    size_t n_max;
    size_t bytes_max;
} limit_case;

static const limit_case limit_cases[] = {
#define X(message, field, n_max, bytes_max) {&phalanx__##message##__descriptor, #field, (n_max), (bytes_max)},
    PHX_MESSAGE_LIMITS(X)
#undef X
};

/* Sets a field to n elements of n_bytes each (strings and bytes), or n filled elements. */
static void stretch(filler *f, ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, size_t n,
                    size_t n_bytes)
{
    char *base = (char *)message;
    char one[sizeof(ProtobufCBinaryData)];
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        char *text = take(f, n_bytes + 1, 1);
        memset(text, 'x', n_bytes);
        memcpy(one, &text, sizeof(text));
    } else if (field->type == PROTOBUF_C_TYPE_BYTES) {
        const ProtobufCBinaryData bytes = {.len = n_bytes, .data = take(f, n_bytes, 1)};
        memcpy(one, &bytes, sizeof(bytes));
    } else {
        fill_value(f, field, one);
    }
    const size_t bytes = value_bytes(field->type);
    if (field->label != PROTOBUF_C_LABEL_REPEATED) {
        memcpy(base + field->offset, one, bytes);
        return;
    }
    char *array = take(f, n, bytes);
    for (size_t i = 0; i < n; i++)
        memcpy(array + i * bytes, one, bytes);
    memcpy(base + field->quantifier_offset, &n, sizeof(n));
    memcpy(base + field->offset, &array, sizeof(array));
}

static phx_code code_when(const limit_case *c, size_t n, size_t n_bytes)
{
    filler f = {.rng = {.seed = 7}};
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(c->message, c->field);
    assert_non_null(field);
    ProtobufCMessage *message =
        fill_message(&f, c->message, field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF ? field->id : 0);
    stretch(&f, message, field, n, n_bytes);
    if (c->message == &phalanx__capture_part__descriptor && field->type == PROTOBUF_C_TYPE_BYTES) {
        ((Phalanx__CapturePart *)message)->n_rows = 1;
        ((Phalanx__CapturePart *)message)->n_cols = (uint32_t)(n_bytes / 4);
    }
    if (c->message == &phalanx__assign__descriptor && strcmp(c->field, "layer_first") == 0) {
        Phalanx__Assign *assign = (Phalanx__Assign *)message;
        assign->tp = 1;
        assign->pp = (uint32_t)n - 1;
        for (uint32_t i = 0; i < n; i++)
            assign->layer_first[i] = i;
    }
    phx_error err = {0};
    const phx_code rc = phx_message_check(message, NULL, &err);
    filler_done(&f);
    return rc;
}

static void test_limits(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(limit_cases) / sizeof(limit_cases[0]); i++) {
        const limit_case *c = &limit_cases[i];
        /* These two take only words of their own, all shorter than the limit. */
        const bool is_word = strcmp(c->field, "dtype") == 0 || strcmp(c->field, "comm") == 0;
        const phx_code at = code_when(c, c->n_max, c->bytes_max);
        if (at != (is_word ? PHX_ERR_INVALID : PHX_OK))
            fail_msg("%s.%s at its limit: %s", c->message->short_name, c->field, phx_code_name(at));
        if (c->n_max > 1 && code_when(c, c->n_max + 1, c->bytes_max) != PHX_ERR_TOO_LONG)
            fail_msg("%s.%s takes one element too many", c->message->short_name, c->field);
        if (c->bytes_max > 0 && code_when(c, c->n_max, c->bytes_max + 1) != PHX_ERR_TOO_LONG)
            fail_msg("%s.%s takes one byte too many", c->message->short_name, c->field);
    }
}

/* Every message reachable from a frame: a field that needs a limit has one. */
static void expect_limits(const ProtobufCMessageDescriptor *descriptor, int depth, size_t *n_seen)
{
    assert_true(depth < 8); /* no recursive type */
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        if (field->label == PROTOBUF_C_LABEL_REPEATED || field->type == PROTOBUF_C_TYPE_STRING ||
            field->type == PROTOBUF_C_TYPE_BYTES) {
            bool found = false;
            for (size_t j = 0; j < sizeof(limit_cases) / sizeof(limit_cases[0]); j++)
                found = found || (limit_cases[j].message == descriptor &&
                                  strcmp(limit_cases[j].field, field->name) == 0);
            if (!found)
                fail_msg("%s.%s has no limit", descriptor->short_name, field->name);
            (*n_seen)++;
        }
        if (field->type == PROTOBUF_C_TYPE_MESSAGE)
            expect_limits(field->descriptor, depth + 1, n_seen);
    }
}

static void test_every_field_has_its_limit(void **state)
{
    (void)state;
    size_t n_seen = 0;
    for (size_t i = 0; i < 3; i++)
        expect_limits(frames[i], 0, &n_seen);
    assert_true(n_seen >= sizeof(limit_cases) / sizeof(limit_cases[0]));
}

/* ---------------------------------------------------------------- hostile bytes */

static phx_code decode_literal(unsigned frame, const char *ptr, size_t n)
{
    return decode_and_free(frames[frame], (phx_bytes){(const uint8_t *)ptr, n}, NULL);
}
#define DECODE(frame, text) decode_literal((frame), "" text, sizeof(text) - 1)

static void test_refused_bytes(void **state)
{
    (void)state;
    enum { RANK, CLIENT, SERVER };
    assert_int_equal(DECODE(RANK, ""), PHX_ERR_INVALID);                       /* no body */
    assert_int_equal(DECODE(CLIENT, "\x08\x01"), PHX_ERR_INVALID);             /* call id only */
    assert_int_equal(DECODE(SERVER, "\x08\x01"), PHX_ERR_INVALID);             /* neither body nor end */
    assert_int_equal(DECODE(SERVER, "\x08\x01\x10\x01"), PHX_OK);              /* end */
    assert_int_equal(DECODE(SERVER, "\x10\x01\x18\x63"), PHX_ERR_INVALID);     /* status 99 */
    assert_int_equal(DECODE(SERVER, "\x10\x01\x22\x01\xFF"), PHX_ERR_INVALID); /* not UTF-8 */
    assert_int_equal(DECODE(SERVER, "\x10\x01\x22\x03"
                                    "a\0b"),
                     PHX_ERR_INVALID); /* NUL inside */
    assert_int_equal(DECODE(SERVER, "\x10\x01\x22\x02"
                                    "a\0"),
                     PHX_ERR_INVALID); /* NUL at the end */
    assert_int_equal(DECODE(SERVER, "\x10\x01\x22\x02"
                                    "ab"),
                     PHX_OK);
    assert_int_equal(DECODE(CLIENT, "\x62\x00"), PHX_OK);                      /* status */
    assert_int_equal(DECODE(CLIENT, "\x62\x02\x08\x01"), PHX_ERR_INVALID);     /* with a field it has not */
    assert_int_equal(DECODE(CLIENT, "\x62\x00\xA0\x06\x01"), PHX_ERR_INVALID); /* unknown field 100 */
    assert_int_equal(DECODE(CLIENT, "\x52\x00"), PHX_ERR_INVALID);             /* generate without a prompt */
    assert_int_equal(DECODE(CLIENT, "\x52\x02\x12\x00"), PHX_ERR_INVALID);     /* without sampling */
    assert_int_equal(DECODE(CLIENT, "\x52\x04\x12\x00\x22\x00"), PHX_ERR_INVALID); /* top_p 0 */
    assert_int_equal(DECODE(CLIENT, "\x52\x0E\x12\x00\x22\x0A\x15\0\0\x80\x3F\x3D\0\0\x80\x3F"), PHX_OK);
    assert_int_equal(DECODE(CLIENT, "\x52\x0E\x12\x00\x22\x0A\x15\0\0\xC0\x7F\x3D\0\0\x80\x3F"),
                     PHX_ERR_INVALID);                                           /* top_p NaN */
    assert_int_equal(DECODE(RANK, "\x52\xFF\xFF\xFF\xFF\x0F"), PHX_ERR_INVALID); /* 4 GiB announced */
    assert_int_equal(DECODE(RANK, "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"), PHX_ERR_INVALID);
    assert_int_equal(DECODE(RANK, "\x0B\x0C"), PHX_ERR_INVALID); /* groups */
}

/* A plan of n empty rows: two bytes each on the wire, 60 in memory. */
static phx_code decode_empty_rows(uint32_t n)
{
    phx_buf wire;
    phx_buf_init(&wire, 8 << 20);
    uint8_t head[6] = {0x72}; /* field 14 */
    uint32_t left = n * 2;
    size_t n_head = 1;
    for (; left >= 0x80; left >>= 7)
        head[n_head++] = (uint8_t)(left | 0x80);
    head[n_head++] = (uint8_t)left;
    phx_buf_append(&wire, head, n_head);
    for (uint32_t i = 0; i < n; i++)
        phx_buf_append(&wire, "\x2A\x00", 2);
    assert_int_equal(wire.code, PHX_OK);
    const phx_code rc = decode_and_free(&phalanx__rank_frame__descriptor, bytes_of(&wire), NULL);
    phx_buf_done(&wire);
    return rc;
}

static void test_allocation_is_capped(void **state)
{
    (void)state;
    const uint64_t n_live = phx_alloc_count().n_live;
    const uint64_t n_before = phx_alloc_count().n_allocs;
    assert_int_equal(decode_empty_rows(100), PHX_OK);
    assert_int_equal(decode_empty_rows(1000000), PHX_ERR_TOO_LONG);
    assert_int_equal(phx_alloc_count().n_live, n_live);
    /* 2 MB of wire may hold 16 MB: fewer rows than announced were made before the budget ran out. */
    assert_true(phx_alloc_count().n_allocs - n_before < 500000);
}

static void test_no_memory(void **state)
{
    (void)state;
    phx_buf wire;
    phx_buf_init(&wire, 1 << 20);
    for (unsigned body = 0; encode_body(0, body, &wire); body++) {
        const uint64_t n_live = phx_alloc_count().n_live;
        for (uint64_t nth = 1;; nth++) {
            assert_true(nth < 1000);
            Phalanx__RankFrame *frame = NULL;
            phx_error err = {0};
            phx_alloc_fail_nth(nth);
            const phx_code rc = phx_rank_frame_decode(bytes_of(&wire), &frame, &err);
            phx_alloc_fail_nth(0);
            phx_rank_frame_free(frame);
            assert_int_equal(phx_alloc_count().n_live, n_live);
            if (rc == PHX_OK)
                break;
            assert_int_equal(rc, PHX_ERR_NOMEM);
        }
        phx_buf_clear(&wire);
    }
    phx_buf_done(&wire);
}

/* Changes, cuts, repeats and inserts bytes. */
static size_t mutate(phx_rng *rng, uint8_t *ptr, size_t n, size_t n_max)
{
    for (uint32_t left = 1 + phx_rng_below(rng, 4); left > 0 && n > 0; left--) {
        const size_t at = phx_rng_below(rng, (uint32_t)n);
        switch (phx_rng_below(rng, 5)) {
        case 0:
            ptr[at] = (uint8_t)phx_rng_u64(rng);
            break;
        case 1:
            ptr[at] ^= (uint8_t)(1u << phx_rng_below(rng, 8));
            break;
        case 2:
            n = at;
            break;
        case 3:
            if (n < n_max) {
                memmove(ptr + at + 1, ptr + at, n - at);
                ptr[at] = (uint8_t)phx_rng_u64(rng);
                n++;
            }
            break;
        default: {
            const size_t from = phx_rng_below(rng, (uint32_t)n), room = n - (at > from ? at : from);
            memmove(ptr + at, ptr + from, phx_rng_below(rng, (uint32_t)room + 1));
        }
        }
    }
    return n;
}

static void test_mutated_frames(void **state)
{
    (void)state;
    enum { N_MAX = 4096 };
    phx_rng rng = {.seed = 20240607};
    phx_buf wires[32];
    unsigned frame_of[32], n_wires = 0;
    for (unsigned frame = 0; frame < 3; frame++)
        for (unsigned body = 0;; body++) {
            assert_true(n_wires < 32);
            phx_buf_init(&wires[n_wires], N_MAX);
            if (!encode_body(frame, body, &wires[n_wires]))
                break;
            frame_of[n_wires++] = frame;
        }
    const uint64_t n_live = phx_alloc_count().n_live;
    unsigned n_ok = 0;
    for (unsigned i = 0; i < N_MUTATIONS; i++) {
        const unsigned k = phx_rng_below(&rng, n_wires);
        uint8_t bytes[N_MAX + 8];
        memcpy(bytes, wires[k].ptr, wires[k].n);
        const size_t n = mutate(&rng, bytes, wires[k].n, sizeof(bytes));
        n_ok += decode_and_free(frames[frame_of[k]], (phx_bytes){bytes, n}, NULL) == PHX_OK;
    }
    assert_int_equal(phx_alloc_count().n_live, n_live);
    assert_in_range(n_ok, N_MUTATIONS / 100, N_MUTATIONS - N_MUTATIONS / 100); /* both ways were taken */
    for (unsigned i = 0; i < n_wires; i++)
        phx_buf_done(&wires[i]);
}

/* ---------------------------------------------------------------- the rest */

static void test_encode_refuses_what_decode_would(void **state)
{
    (void)state;
    phx_buf wire;
    phx_buf_init(&wire, 64);
    Phalanx__ServerFrame frame = PHALANX__SERVER_FRAME__INIT;
    phx_error err = {0};
    assert_int_equal(phx_message_encode(&frame.base, &wire, &err), PHX_ERR_INVALID);
    frame.end = 1;
    frame.message = (char *)(uintptr_t) "\xC3";
    assert_int_equal(phx_message_encode(&frame.base, &wire, NULL), PHX_ERR_INVALID);
    frame.message = NULL; /* empty */
    assert_int_equal(phx_message_encode(&frame.base, &wire, NULL), PHX_OK);
    char text[101] = {0};
    memset(text, 'a', 100);
    frame.message = text;
    assert_int_equal(phx_message_encode(&frame.base, &wire, NULL),
                     PHX_ERR_TOO_LONG); /* the buffer's ceiling */
    phx_buf_done(&wire);
}

static void test_grpc_codes(void **state)
{
    (void)state;
    assert_int_equal(phx_grpc_of_code(PHX_OK), PHALANX__GRPC_STATUS__GRPC_OK);
    for (int code = PHX_ERR_INVALID; code < PHX_CODE_COUNT; code++) {
        const Phalanx__GrpcStatus status = phx_grpc_of_code((phx_code)code);
        assert_int_not_equal(status, PHALANX__GRPC_STATUS__GRPC_OK);
        assert_int_not_equal(phx_code_of_grpc(status), PHX_OK);
        if (phx_code_scope((phx_code)code) == PHX_SCOPE_REQUEST)
            assert_int_equal(phx_code_of_grpc(status), code);
    }
    assert_int_equal(phx_code_of_grpc((Phalanx__GrpcStatus)99), PHX_ERR_INTERNAL);
}

static void test_build_id(void **state)
{
    (void)state;
    assert_non_null(strstr(phx_build_id(), "0.1.0+"));
    assert_true(strlen(phx_build_id()) <= 256); /* Hello.build */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_body_there_and_back),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_every_field_has_its_limit),
        cmocka_unit_test(test_refused_bytes),
        cmocka_unit_test(test_allocation_is_capped),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_mutated_frames),
        cmocka_unit_test(test_encode_refuses_what_decode_would),
        cmocka_unit_test(test_grpc_codes),
        cmocka_unit_test(test_build_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
