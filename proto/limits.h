/* proto/limits.h - how much of anything a control message may carry, in one table.
 * Owns: the ceilings. Enforced by proto/check.c on the way in and on the way out; what is past a ceiling is
 * PHX_ERR_TOO_LONG. A test goes through the table: at the limit and one past it. */
#ifndef PHX_PROTO_LIMITS_H
#define PHX_PROTO_LIMITS_H

#include "proto/step_plan.h"

#define PHX_CAPTURE_PART_MAX (1u << 20) /* bytes of tensor data in one part */
#define PHX_STEP_IDS_MAX     (1u << 20) /* token ids in one step plan: rows and reused ids together */
#define PHX_CAPTURE_ALL                                                                      \
    (PHX_CAPTURE_LOGITS | PHX_CAPTURE_HIDDEN | PHX_CAPTURE_TOPK | PHX_CAPTURE_INDEX_SCORES | \
     PHX_CAPTURE_EXPERTS)

/* Sampling numbers: finite, and within these. */
#define PHX_TEMPERATURE_MAX 100.0f
#define PHX_PENALTY_ABS_MAX 100.0f
#define PHX_REPETITION_MAX  100.0f
#define PHX_BIAS_ABS_MAX    1e4f

/* Heap that decoding one message may hold: PHX_DECODE_FACTOR x wire bytes + PHX_DECODE_BASE. The densest
 * honest message needs about 7 times (a row of a step plan: 9 bytes on the wire, a struct of 48, a pointer of
 * 8, and protobuf-c's note of where it lies); a step plan and a result at every limit are tested to fit. */
#define PHX_DECODE_FACTOR 8u
#define PHX_DECODE_BASE   (256u << 10)

/* message, field, elements (1 for a single field), bytes of each string or bytes element. Every repeated,
 * string and bytes field has its line; a field without one is a failed assertion in the first test that meets
 * it. */
#define PHX_MESSAGE_LIMITS(X)                                           \
    X(server_frame, message, 1, 1024)                                   \
    X(sampling, bias, PHX_LOGIT_BIAS_MAX, 0)                            \
    X(generate_request, text, 1, PHX_REQUEST_BYTES_MAX)                 \
    X(generate_request, chat_json, 1, PHX_REQUEST_BYTES_MAX)            \
    X(generate_request, stop_ids, PHX_STOP_IDS_MAX, 0)                  \
    X(generate_request, stop, PHX_STOP_STRINGS_MAX, PHX_STOP_BYTES_MAX) \
    X(token_ids, ids, PHX_REQUEST_TOKENS_MAX, 0)                        \
    X(generate_event, token_ids, 65536, 0)                              \
    X(generate_event, text, 1, 1 << 20)                                 \
    X(generate_event, reasoning, 1, 1 << 20)                            \
    X(generate_event, tool_calls_json, 1, 1 << 20)                      \
    X(generate_event, top, PHX_TOP_LOGPROBS_MAX, 0)                     \
    X(generate_event, finish_reason, 1, 32)                             \
    X(capture_part, name, 1, 64)                                        \
    X(capture_part, dtype, 1, 8)                                        \
    X(capture_part, data, 1, PHX_CAPTURE_PART_MAX)                      \
    X(rank_status, host, 1, 256)                                        \
    X(rank_status, state, 1, 32)                                        \
    X(rank_status, level, 1, 64)                                        \
    X(status_reply, model, 1, 256)                                      \
    X(status_reply, model_dir, 1, 4096)                                 \
    X(status_reply, state, 1, 32)                                       \
    X(status_reply, ranks, PHX_RANKS_MAX, 0)                            \
    X(status_reply, numerics, 1, 4096)                                  \
    X(status_reply, layout, 1, 1024)                                    \
    X(status_reply, http, 1, 256)                                       \
    X(status_reply, drafts_list, 1 + PHX_DRAFTS_MAX, 0)                 \
    X(plan_reply, text, 1, 1 << 20)                                     \
    X(plan_reply, json, 1, 4 << 20)                                     \
    X(hello, build, 1, 256)                                             \
    X(hello, host, 1, 256)                                              \
    X(hello, level, 1, 64)                                              \
    X(hello, device_level, 1, 64)                                       \
    X(hello, device, 1, 512)                                            \
    X(assign, model_dir, 1, 4096)                                       \
    X(assign, layer_first, PHX_RANKS_MAX + 1, 0)                        \
    X(assign, numerics, 1, 4096)                                        \
    X(assign, plan_hash, 1, 64)                                         \
    X(assign, comm, 1, 16)                                              \
    X(assign, segment, 1, 256)                                          \
    X(assign, cpus, 1024, 0)                                            \
    X(progress, phase, 1, 32)                                           \
    X(ready, plan_hash, 1, 64)                                          \
    X(ready, numerics_hash, 1, 64)                                      \
    X(ready, kernels, 1, 4096)                                          \
    X(ready, canary, 1, 64)                                             \
    X(failure, place, 1, 256)                                           \
    X(failure, text, 1, 2048)                                           \
    X(shutdown, reason, 1, 1024)                                        \
    X(step_plan, opens, PHX_SLOTS_MAX, 0)                               \
    X(step_plan, closes, PHX_SLOTS_MAX, 0)                              \
    X(step_plan, rows, PHX_SLOTS_MAX, 0)                                \
    X(step_plan, tokens, PHX_STEP_IDS_MAX, 0)                           \
    X(step_plan, blocks, PHX_STEP_BLOCKS_MAX, 0)                        \
    X(row_result, top, PHX_TOP_LOGPROBS_MAX, 0)                         \
    X(step_result, rows, PHX_SLOTS_MAX *(1 + PHX_DRAFTS_MAX), 0)        \
    X(bench_reply, json, 1, 1 << 20)

#endif
