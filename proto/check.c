/* proto/check.c - the validator of every message: one walk over the descriptors with the table of
 * proto/limits.h, then the rules that only one message has. The walk recurses; the schema has no recursive
 * type, so its depth is that of control.proto (5), and asserted. */
#include "proto/check.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/str.h"
#include "proto/codec_sampling.h"
#include "proto/limits.h"

#define DEPTH_MAX 8

typedef struct limit {
    const ProtobufCMessageDescriptor *message;
    const char *field;
    size_t n_max;
    size_t bytes_max;
} limit;

static const limit limits[] = {
#define X(message, field, n_max, bytes_max) {&phalanx__##message##__descriptor, #field, (n_max), (bytes_max)},
    PHX_MESSAGE_LIMITS(X)
#undef X
};

typedef struct walk {
    size_t (*block_bytes)(const void *ptr);
    phx_error *err;
    int depth;
} walk;

/* A value in a message and what is known about it. */
typedef struct place {
    const ProtobufCMessageDescriptor *message;
    const ProtobufCFieldDescriptor *field;
    const limit *limit; /* NULL for fields that need none */
    bool required;      /* element of a repeated field, or the chosen member of a oneof */
} place;

static phx_code check_message(walk *w, const ProtobufCMessage *message);
static phx_code check_field(walk *w, const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field);
static phx_code check_value(walk *w, const place *at, const void *value);
static phx_code check_rules(const ProtobufCMessage *message, phx_error *err);

phx_code phx_message_check(const ProtobufCMessage *message, size_t (*block_bytes)(const void *ptr),
                           phx_error *err)
{
    walk w = {.block_bytes = block_bytes, .err = err};
    return check_message(&w, message);
}

static phx_code check_message(walk *w, const ProtobufCMessage *message)
{
    assert(w->depth < DEPTH_MAX);
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    if (message->n_unknown_fields != 0)
        return PHX_FAIL(w->err, PHX_ERR_INVALID, "%s has an unknown field %u: the peer is of another version",
                        descriptor->short_name, message->unknown_fields[0].tag);
    w->depth++;
    phx_code rc = PHX_OK;
    for (unsigned i = 0; rc == PHX_OK && i < descriptor->n_fields; i++)
        rc = check_field(w, message, &descriptor->fields[i]);
    w->depth--;
    return rc == PHX_OK ? check_rules(message, w->err) : rc;
}

static const limit *find_limit(const ProtobufCMessageDescriptor *message,
                               const ProtobufCFieldDescriptor *field)
{
    if (field->label != PROTOBUF_C_LABEL_REPEATED && field->type != PROTOBUF_C_TYPE_STRING &&
        field->type != PROTOBUF_C_TYPE_BYTES)
        return NULL;
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
        if (limits[i].message == message && strcmp(limits[i].field, field->name) == 0)
            return &limits[i];
    assert(!"a repeated, string or bytes field without a line in proto/limits.h");
    return NULL;
}

static size_t element_bytes(ProtobufCType type)
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
        return 4; /* uint32, float, enum, bool: all that control.proto repeats */
    }
}

static phx_code check_field(walk *w, const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const char *base = (const char *)message;
    const void *value = base + field->offset;
    const bool is_oneof = (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
    if (is_oneof) {
        uint32_t chosen;
        memcpy(&chosen, base + field->quantifier_offset, sizeof(chosen));
        if (chosen != field->id)
            return PHX_OK;
    }
    place at = {.message = message->descriptor,
                .field = field,
                .limit = find_limit(message->descriptor, field),
                .required = is_oneof};
    if (field->label != PROTOBUF_C_LABEL_REPEATED)
        return check_value(w, &at, value);
    size_t n;
    const char *array;
    memcpy(&n, base + field->quantifier_offset, sizeof(n));
    memcpy(&array, value, sizeof(array));
    if (n > at.limit->n_max)
        return PHX_FAIL(w->err, PHX_ERR_TOO_LONG, "%s.%s has %zu elements, the limit is %zu",
                        message->descriptor->short_name, field->name, n, at.limit->n_max);
    if (field->type == PROTOBUF_C_TYPE_UINT32)
        return PHX_OK; /* any value will do: step plans hold a million of them */
    at.required = true;
    phx_code rc = PHX_OK;
    for (size_t i = 0; rc == PHX_OK && i < n; i++)
        rc = check_value(w, &at, array + i * element_bytes(field->type));
    return rc;
}

static phx_code check_bytes(walk *w, const place *at, size_t n)
{
    if (n > at->limit->bytes_max)
        return PHX_FAIL(w->err, PHX_ERR_TOO_LONG, "%s.%s has %zu bytes, the limit is %zu",
                        at->message->short_name, at->field->name, n, at->limit->bytes_max);
    return PHX_OK;
}

static phx_code check_string(walk *w, const place *at, const char *text)
{
    if (!text || text == (const char *)at->field->default_value || text == protobuf_c_empty_string)
        return PHX_OK;
    const size_t n = w->block_bytes ? w->block_bytes(text) - 1 : strlen(text);
    const phx_code rc = check_bytes(w, at, n);
    if (rc != PHX_OK)
        return rc;
    if (memchr(text, 0, n))
        return PHX_FAIL(w->err, PHX_ERR_INVALID, "%s.%s has a NUL inside", at->message->short_name,
                        at->field->name);
    if (!phx_utf8_valid(text, n))
        return PHX_FAIL(w->err, PHX_ERR_INVALID, "%s.%s is not UTF-8", at->message->short_name,
                        at->field->name);
    return PHX_OK;
}

static phx_code check_submessage(walk *w, const place *at, const ProtobufCMessage *message)
{
    if (!message && at->required)
        return PHX_FAIL(w->err, PHX_ERR_INVALID, "%s.%s is missing", at->message->short_name,
                        at->field->name);
    if (!message)
        return PHX_OK;
    assert(message->descriptor == at->field->descriptor);
    return check_message(w, message);
}

static phx_code check_value(walk *w, const place *at, const void *value)
{
    switch (at->field->type) {
    case PROTOBUF_C_TYPE_STRING: {
        const char *text;
        memcpy(&text, value, sizeof(text));
        return check_string(w, at, text);
    }
    case PROTOBUF_C_TYPE_BYTES: {
        ProtobufCBinaryData bytes;
        memcpy(&bytes, value, sizeof(bytes));
        return check_bytes(w, at, bytes.len);
    }
    case PROTOBUF_C_TYPE_MESSAGE: {
        const ProtobufCMessage *message;
        memcpy(&message, value, sizeof(message));
        return check_submessage(w, at, message);
    }
    case PROTOBUF_C_TYPE_ENUM: {
        int number;
        memcpy(&number, value, sizeof(number));
        if (!protobuf_c_enum_descriptor_get_value(at->field->descriptor, number))
            return PHX_FAIL(w->err, PHX_ERR_INVALID, "%s.%s has the unknown value %d",
                            at->message->short_name, at->field->name, number);
        return PHX_OK;
    }
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_DOUBLE: {
        float single = 0;
        double number = 0;
        if (at->field->type == PROTOBUF_C_TYPE_FLOAT)
            memcpy(&single, value, sizeof(single));
        else
            memcpy(&number, value, sizeof(number));
        if (isnan(single) || isnan(number))
            return PHX_FAIL(w->err, PHX_ERR_INVALID, "%s.%s is not a number", at->message->short_name,
                            at->field->name);
        return PHX_OK;
    }
    default:
        return PHX_OK; /* integers and bool: every value is one */
    }
}

/* ---------------------------------------------------------------- rules of single messages */

static phx_code rules_of_rank_frame(const ProtobufCMessage *message, phx_error *err)
{
    const Phalanx__RankFrame *frame = (const Phalanx__RankFrame *)message;
    if (frame->body_case == PHALANX__RANK_FRAME__BODY__NOT_SET)
        return PHX_FAIL(err, PHX_ERR_INVALID, "a rank frame without a body");
    return PHX_OK;
}

static phx_code rules_of_client_frame(const ProtobufCMessage *message, phx_error *err)
{
    const Phalanx__ClientFrame *frame = (const Phalanx__ClientFrame *)message;
    if (frame->body_case == PHALANX__CLIENT_FRAME__BODY__NOT_SET)
        return PHX_FAIL(err, PHX_ERR_INVALID, "a client frame without a body");
    return PHX_OK;
}

static phx_code rules_of_server_frame(const ProtobufCMessage *message, phx_error *err)
{
    const Phalanx__ServerFrame *frame = (const Phalanx__ServerFrame *)message;
    if (frame->body_case == PHALANX__SERVER_FRAME__BODY__NOT_SET && !frame->end)
        return PHX_FAIL(err, PHX_ERR_INVALID, "a server frame without a body that does not end its call");
    return PHX_OK;
}

static phx_code rules_of_sampling(const ProtobufCMessage *message, phx_error *err)
{
    const Phalanx__Sampling *from = (const Phalanx__Sampling *)message;
    const phx_sampling sampling = phx_sampling_of_message(from);
    phx_code rc = phx_sampling_check(&sampling, err);
    for (size_t i = 0; rc == PHX_OK && i < from->n_bias; i++)
        rc = phx_bias_check(from->bias[i]->id, from->bias[i]->bias, err);
    return rc;
}

static phx_code rules_of_generate_request(const ProtobufCMessage *message, phx_error *err)
{
    const Phalanx__GenerateRequest *request = (const Phalanx__GenerateRequest *)message;
    if (request->prompt_case == PHALANX__GENERATE_REQUEST__PROMPT__NOT_SET)
        return PHX_FAIL(err, PHX_ERR_INVALID, "GenerateRequest needs a prompt: token_ids, text or chat_json");
    if (!request->sampling)
        return PHX_FAIL(err, PHX_ERR_INVALID,
                        "GenerateRequest needs sampling (temperature 0, top_p 1, "
                        "repetition_penalty 1 for greedy)");
    if (request->n > PHX_CHOICES_MAX)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "GenerateRequest.n is %u, the limit is %u", request->n,
                        PHX_CHOICES_MAX);
    if ((request->capture & ~(uint32_t)PHX_CAPTURE_ALL) != 0)
        return PHX_FAIL(err, PHX_ERR_INVALID, "GenerateRequest.capture has unknown bits: 0x%x",
                        request->capture);
    return PHX_OK;
}

static phx_code rules_of_capture_part(const ProtobufCMessage *message, phx_error *err)
{
    const Phalanx__CapturePart *part = (const Phalanx__CapturePart *)message;
    if (!part->dtype || (strcmp(part->dtype, "F32") != 0 && strcmp(part->dtype, "I32") != 0))
        return PHX_FAIL(err, PHX_ERR_INVALID, "CapturePart.dtype must be F32 or I32");
    if ((part->n_cols != 0 && part->n_rows > PHX_CAPTURE_PART_MAX / 4 / part->n_cols) ||
        (size_t)part->n_rows * part->n_cols * 4 != part->data.len)
        return PHX_FAIL(err, PHX_ERR_INVALID, "CapturePart of %u x %u has %zu bytes", part->n_rows,
                        part->n_cols, part->data.len);
    if (part->row_first > UINT32_MAX - part->n_rows || part->col_first > UINT32_MAX - part->n_cols)
        return PHX_FAIL(err, PHX_ERR_INVALID, "CapturePart reaches past 2^32");
    return PHX_OK;
}

static phx_code rules_of_hello(const ProtobufCMessage *message, phx_error *err)
{
    const Phalanx__Hello *hello = (const Phalanx__Hello *)message;
    if (hello->n_ranks < 1 || hello->n_ranks > PHX_RANKS_MAX || hello->rank >= hello->n_ranks)
        return PHX_FAIL(err, PHX_ERR_INVALID, "Hello of rank %u of %u; a group has 1 to %u ranks",
                        hello->rank, hello->n_ranks, PHX_RANKS_MAX);
    return PHX_OK;
}

static phx_code rules_of_assign(const ProtobufCMessage *message, phx_error *err)
{
    const Phalanx__Assign *assign = (const Phalanx__Assign *)message;
    if (assign->tp < 1 || assign->tp > PHX_RANKS_MAX || assign->pp < 1 || assign->pp > PHX_RANKS_MAX ||
        assign->tp * assign->pp > PHX_RANKS_MAX)
        return PHX_FAIL(err, PHX_ERR_INVALID, "Assign with tp %u and pp %u; a group has 1 to %u ranks",
                        assign->tp, assign->pp, PHX_RANKS_MAX);
    if (assign->n_layer_first != (size_t)assign->pp + 1)
        return PHX_FAIL(err, PHX_ERR_INVALID, "Assign.layer_first has %zu entries, pp %u needs %u",
                        assign->n_layer_first, assign->pp, assign->pp + 1);
    for (uint32_t i = 0; i < assign->pp; i++)
        if (assign->layer_first[i] >= assign->layer_first[i + 1])
            return PHX_FAIL(err, PHX_ERR_INVALID, "Assign.layer_first does not ascend at stage %u", i);
    if (!assign->comm || (strcmp(assign->comm, "loop") != 0 && strcmp(assign->comm, "shm") != 0 &&
                          strcmp(assign->comm, "mpi") != 0))
        return PHX_FAIL(err, PHX_ERR_INVALID, "Assign.comm must be loop, shm or mpi");
    return PHX_OK;
}

static phx_code rules_of_slot_open(const ProtobufCMessage *message, phx_error *err)
{
    const Phalanx__SlotOpen *open = (const Phalanx__SlotOpen *)message;
    return open->sampling ? PHX_OK
                          : PHX_FAIL(err, PHX_ERR_INVALID, "SlotOpen of slot %u needs sampling", open->slot);
}

static phx_code check_rules(const ProtobufCMessage *message, phx_error *err)
{
    static const struct {
        const ProtobufCMessageDescriptor *message;
        phx_code (*check)(const ProtobufCMessage *message, phx_error *err);
    } rules[] = {
        {&phalanx__rank_frame__descriptor, rules_of_rank_frame},
        {&phalanx__client_frame__descriptor, rules_of_client_frame},
        {&phalanx__server_frame__descriptor, rules_of_server_frame},
        {&phalanx__sampling__descriptor, rules_of_sampling},
        {&phalanx__generate_request__descriptor, rules_of_generate_request},
        {&phalanx__capture_part__descriptor, rules_of_capture_part},
        {&phalanx__hello__descriptor, rules_of_hello},
        {&phalanx__assign__descriptor, rules_of_assign},
        {&phalanx__slot_open__descriptor, rules_of_slot_open},
    };
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
        if (rules[i].message == message->descriptor)
            return rules[i].check(message, err);
    return PHX_OK;
}
