/* proto/codec.c - frames between bytes and the generated structs.
 * Owns: the capped allocator of decoding, gRPC codes. Not here: the rules of a message (proto/check.c), steps
 * (proto/codec_step.c). */
#include "proto/codec.h"

#include <assert.h>

#include "base/alloc.h"
#include "proto/check.h"
#include "proto/limits.h"

/* ---------------------------------------------------------------- the capped allocator */

/* Stands before every block, so that a freed block returns to the budget and a string's length can be told.
 */
typedef struct block_head {
    _Alignas(16) size_t n_bytes;
} block_head;

typedef struct budget {
    size_t n_left;
    phx_code code; /* why a block was refused: PHX_ERR_TOO_LONG (the budget) or PHX_ERR_NOMEM */
} budget;

static void *budget_alloc(void *user, size_t n_bytes)
{
    budget *b = user;
    if (n_bytes > b->n_left) {
        b->code = PHX_ERR_TOO_LONG;
        return NULL;
    }
    block_head *head = phx_alloc(1, sizeof(*head) + n_bytes);
    if (!head) {
        b->code = PHX_ERR_NOMEM;
        return NULL;
    }
    head->n_bytes = n_bytes;
    b->n_left -= n_bytes;
    return head + 1;
}

/* user is NULL when a whole frame is freed long after its budget is gone. */
static void budget_free(void *user, void *ptr)
{
    if (!ptr)
        return;
    block_head *head = (block_head *)ptr - 1;
    budget *b = user;
    if (b)
        b->n_left += head->n_bytes;
    phx_free(head);
}

static size_t block_bytes(const void *ptr)
{
    return ((const block_head *)ptr - 1)->n_bytes;
}

static void message_free(ProtobufCMessage *message)
{
    ProtobufCAllocator allocator = {.alloc = budget_alloc, .free = budget_free, .allocator_data = NULL};
    if (message)
        protobuf_c_message_free_unpacked(message, &allocator);
}

static phx_code message_decode(const ProtobufCMessageDescriptor *descriptor, phx_bytes wire,
                               ProtobufCMessage **ret_message, phx_error *err)
{
    phx_code rc = PHX_OK;
    ProtobufCMessage *message = NULL;
    if (wire.n > PHX_MESSAGE_MAX) {
        rc =
            PHX_FAIL(err, PHX_ERR_TOO_LONG, "message of %zu bytes, the limit is %u", wire.n, PHX_MESSAGE_MAX);
        goto out;
    }
    budget b = {.n_left = PHX_DECODE_FACTOR * wire.n + PHX_DECODE_BASE};
    ProtobufCAllocator allocator = {.alloc = budget_alloc, .free = budget_free, .allocator_data = &b};
    const uint8_t nothing = 0; /* protobuf-c adds to the pointer even when there are no bytes */
    message = protobuf_c_message_unpack(descriptor, &allocator, wire.n, wire.n ? wire.ptr : &nothing);
    if (!message && b.code == PHX_ERR_NOMEM)
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "unpacking a %s of %zu bytes", descriptor->short_name, wire.n);
    else if (!message && b.code == PHX_ERR_TOO_LONG)
        rc = PHX_FAIL(err, PHX_ERR_TOO_LONG, "%s of %zu bytes would unpack to more than %u times that and %u",
                      descriptor->short_name, wire.n, PHX_DECODE_FACTOR, PHX_DECODE_BASE);
    else if (!message)
        rc = PHX_FAIL(err, PHX_ERR_INVALID, "%zu bytes that are not a %s", wire.n, descriptor->short_name);
    else
        rc = phx_message_check(message, block_bytes, err);
    if (rc != PHX_OK)
        goto out;
    *ret_message = message;
    message = NULL;
out:
    message_free(message);
    return rc;
}

/* ---------------------------------------------------------------- frames */

phx_code phx_rank_frame_decode(phx_bytes wire, Phalanx__RankFrame **ret_frame, phx_error *err)
{
    ProtobufCMessage *message = NULL;
    const phx_code rc = message_decode(&phalanx__rank_frame__descriptor, wire, &message, err);
    if (rc == PHX_OK)
        *ret_frame = (Phalanx__RankFrame *)message;
    return rc;
}

void phx_rank_frame_free(Phalanx__RankFrame *frame)
{
    message_free((ProtobufCMessage *)frame);
}

phx_code phx_client_frame_decode(phx_bytes wire, Phalanx__ClientFrame **ret_frame, phx_error *err)
{
    ProtobufCMessage *message = NULL;
    const phx_code rc = message_decode(&phalanx__client_frame__descriptor, wire, &message, err);
    if (rc == PHX_OK)
        *ret_frame = (Phalanx__ClientFrame *)message;
    return rc;
}

void phx_client_frame_free(Phalanx__ClientFrame *frame)
{
    message_free((ProtobufCMessage *)frame);
}

phx_code phx_server_frame_decode(phx_bytes wire, Phalanx__ServerFrame **ret_frame, phx_error *err)
{
    ProtobufCMessage *message = NULL;
    const phx_code rc = message_decode(&phalanx__server_frame__descriptor, wire, &message, err);
    if (rc == PHX_OK)
        *ret_frame = (Phalanx__ServerFrame *)message;
    return rc;
}

void phx_server_frame_free(Phalanx__ServerFrame *frame)
{
    message_free((ProtobufCMessage *)frame);
}

/* A ProtobufCBuffer that appends to a phx_buf, which remembers its own failures. */
typedef struct buf_sink {
    ProtobufCBuffer base; /* first: protobuf-c hands its address back */
    phx_buf *buf;
} buf_sink;

static void sink_append(ProtobufCBuffer *base, size_t n, const uint8_t *ptr)
{
    (void)phx_buf_append(((buf_sink *)base)->buf, ptr, n);
}

phx_code phx_message_encode(const ProtobufCMessage *message, phx_buf *wire, phx_error *err)
{
    phx_code rc = phx_message_check(message, NULL, err);
    if (rc != PHX_OK)
        return rc;
    const size_t n = protobuf_c_message_get_packed_size(message);
    if (n > PHX_MESSAGE_MAX)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "%s of %zu bytes, the limit is %u",
                        message->descriptor->short_name, n, PHX_MESSAGE_MAX);
    buf_sink sink = {.base = {.append = sink_append}, .buf = wire};
    (void)protobuf_c_message_pack_to_buffer(message, &sink.base);
    if (wire->code != PHX_OK)
        rc = PHX_FAIL(err, wire->code, "%s of %zu bytes does not fit its buffer of %zu",
                      message->descriptor->short_name, n, wire->n_max);
    return rc;
}

/* ---------------------------------------------------------------- gRPC codes */

Phalanx__GrpcStatus phx_grpc_of_code(phx_code code)
{
    static const Phalanx__GrpcStatus statuses[PHX_CODE_COUNT] = {
        [PHX_OK] = PHALANX__GRPC_STATUS__GRPC_OK,
        [PHX_ERR_INVALID] = PHALANX__GRPC_STATUS__GRPC_INVALID_ARGUMENT,
        [PHX_ERR_UNSUPPORTED] = PHALANX__GRPC_STATUS__GRPC_UNIMPLEMENTED,
        [PHX_ERR_TOO_LONG] = PHALANX__GRPC_STATUS__GRPC_OUT_OF_RANGE,
        [PHX_ERR_NOT_FOUND] = PHALANX__GRPC_STATUS__GRPC_NOT_FOUND,
        [PHX_ERR_CANCELLED] = PHALANX__GRPC_STATUS__GRPC_CANCELLED,
        [PHX_ERR_DEADLINE] = PHALANX__GRPC_STATUS__GRPC_DEADLINE_EXCEEDED,
        [PHX_ERR_BUSY] = PHALANX__GRPC_STATUS__GRPC_RESOURCE_EXHAUSTED,
        [PHX_ERR_UNAVAILABLE] = PHALANX__GRPC_STATUS__GRPC_UNAVAILABLE,
        [PHX_ERR_DENIED] = PHALANX__GRPC_STATUS__GRPC_PERMISSION_DENIED,
        [PHX_ERR_IO] = PHALANX__GRPC_STATUS__GRPC_UNKNOWN,
        [PHX_ERR_CORRUPT] = PHALANX__GRPC_STATUS__GRPC_DATA_LOSS,
        [PHX_ERR_NOMEM] = PHALANX__GRPC_STATUS__GRPC_INTERNAL,
        [PHX_ERR_IN_USE] = PHALANX__GRPC_STATUS__GRPC_ALREADY_EXISTS,
        [PHX_ERR_MISMATCH] = PHALANX__GRPC_STATUS__GRPC_FAILED_PRECONDITION,
        [PHX_ERR_COMM] = PHALANX__GRPC_STATUS__GRPC_ABORTED,
        [PHX_ERR_PEER_LOST] = PHALANX__GRPC_STATUS__GRPC_ABORTED,
        [PHX_ERR_NUMERIC] = PHALANX__GRPC_STATUS__GRPC_INTERNAL,
        [PHX_ERR_DEVICE] = PHALANX__GRPC_STATUS__GRPC_INTERNAL,
        [PHX_ERR_INTERNAL] = PHALANX__GRPC_STATUS__GRPC_INTERNAL,
    };
    assert((unsigned)code < PHX_CODE_COUNT);
    return statuses[code];
}

phx_code phx_code_of_grpc(Phalanx__GrpcStatus status)
{
    static const phx_code codes[] = {
        [PHALANX__GRPC_STATUS__GRPC_OK] = PHX_OK,
        [PHALANX__GRPC_STATUS__GRPC_CANCELLED] = PHX_ERR_CANCELLED,
        [PHALANX__GRPC_STATUS__GRPC_UNKNOWN] = PHX_ERR_IO,
        [PHALANX__GRPC_STATUS__GRPC_INVALID_ARGUMENT] = PHX_ERR_INVALID,
        [PHALANX__GRPC_STATUS__GRPC_DEADLINE_EXCEEDED] = PHX_ERR_DEADLINE,
        [PHALANX__GRPC_STATUS__GRPC_NOT_FOUND] = PHX_ERR_NOT_FOUND,
        [PHALANX__GRPC_STATUS__GRPC_ALREADY_EXISTS] = PHX_ERR_IN_USE,
        [PHALANX__GRPC_STATUS__GRPC_PERMISSION_DENIED] = PHX_ERR_DENIED,
        [PHALANX__GRPC_STATUS__GRPC_RESOURCE_EXHAUSTED] = PHX_ERR_BUSY,
        [PHALANX__GRPC_STATUS__GRPC_FAILED_PRECONDITION] = PHX_ERR_MISMATCH,
        [PHALANX__GRPC_STATUS__GRPC_ABORTED] = PHX_ERR_PEER_LOST,
        [PHALANX__GRPC_STATUS__GRPC_OUT_OF_RANGE] = PHX_ERR_TOO_LONG,
        [PHALANX__GRPC_STATUS__GRPC_UNIMPLEMENTED] = PHX_ERR_UNSUPPORTED,
        [PHALANX__GRPC_STATUS__GRPC_INTERNAL] = PHX_ERR_INTERNAL,
        [PHALANX__GRPC_STATUS__GRPC_UNAVAILABLE] = PHX_ERR_UNAVAILABLE,
        [PHALANX__GRPC_STATUS__GRPC_DATA_LOSS] = PHX_ERR_CORRUPT,
        [PHALANX__GRPC_STATUS__GRPC_UNAUTHENTICATED] = PHX_ERR_DENIED,
    };
    return (unsigned)status < sizeof(codes) / sizeof(codes[0]) ? codes[status] : PHX_ERR_INTERNAL;
}
