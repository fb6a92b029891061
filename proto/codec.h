/* proto/codec.h - messages between structs and bytes, with limits checked on the way in.
 * Owns: the capped protobuf allocator, the validator of every message, gRPC codes.
 * The generated structs of control.proto are used directly where a plain struct would only repeat them; step
 * plans and results, which the step path handles at speed, have structs of their own (proto/step_plan.h). */
#ifndef PHX_PROTO_CODEC_H
#define PHX_PROTO_CODEC_H

#include "base/buf.h"
#include "base/status.h"
#include "proto/control.pb-c.h"
#include "proto/step_plan.h"

/* Decoding holds at most 8 x wire size + 256 KiB (proto/limits.h says why 8); strings are UTF-8 without NUL;
 * repeated fields within limits; enums known; unknown fields refused; a frame without a body refused, except
 * a server frame that ends its call. What is certain after success: the chosen member of a oneof is there,
 * GenerateRequest.sampling and SlotOpen.sampling are there and in range, a CapturePart's bytes are n_rows x
 * n_cols x 4; other submessage pointers may be NULL. Errors: PHX_ERR_INVALID, PHX_ERR_TOO_LONG (a limit),
 * PHX_ERR_NOMEM: a peer's bytes never give a code whose scope is wider than a request. Free with the matching
 * _free (accept NULL). */
phx_code phx_rank_frame_decode(phx_bytes wire, Phalanx__RankFrame **ret_frame, phx_error *err);
void phx_rank_frame_free(Phalanx__RankFrame *frame);
phx_code phx_client_frame_decode(phx_bytes wire, Phalanx__ClientFrame **ret_frame, phx_error *err);
void phx_client_frame_free(Phalanx__ClientFrame *frame);
phx_code phx_server_frame_decode(phx_bytes wire, Phalanx__ServerFrame **ret_frame, phx_error *err);
void phx_server_frame_free(Phalanx__ServerFrame *frame);

/* Appends the wire form of any message of control.proto, after the same checks: what the peer would refuse is
 * refused here. */
phx_code phx_message_encode(const ProtobufCMessage *message, phx_buf *wire, phx_error *err);

/* A step plan as a complete RankFrame. The caller has checked it (phx_step_plan_check). */
phx_code phx_step_plan_encode(const phx_step_plan *plan, phx_buf *wire, phx_error *err);

/* Arrays of a decoded plan live in storage until the next decode into it: no allocation per step once warm.
 */
typedef struct phx_step_storage phx_step_storage;
phx_code phx_step_storage_create(const phx_step_limits *limits, phx_step_storage **ret_storage,
                                 phx_error *err);
void phx_step_storage_destroy(phx_step_storage *storage); /* accepts NULL */
/* From an already decoded frame; runs phx_step_plan_check. */
phx_code phx_step_plan_from_frame(const Phalanx__RankFrame *frame, const phx_step_limits *limits,
                                  phx_step_storage *storage, phx_step_plan *ret_plan, phx_error *err);

phx_code phx_step_result_encode(const phx_step_result *result, phx_buf *wire, phx_error *err);
/* rows: caller's array of n_rows_max; ret_result points into it. */
phx_code phx_step_result_from_frame(const Phalanx__RankFrame *frame, phx_row_result *rows,
                                    uint32_t n_rows_max, phx_step_result *ret_result, phx_error *err);

/* Many codes share a status; there and back again keeps the scope of a request's codes. An unknown status is
 * PHX_ERR_INTERNAL. */
Phalanx__GrpcStatus phx_grpc_of_code(phx_code code);
phx_code phx_code_of_grpc(Phalanx__GrpcStatus status);

/* Version, git revision (when configured), compiler and build type: what Hello carries and ranks must share.
 */
const char *phx_build_id(void);

#endif
