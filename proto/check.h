/* proto/check.h - is a message of control.proto within its limits and rules?
 * Private to proto/. Owns: the validator. Not here: bytes (proto/codec.c), the rules of a step
 * (proto/step_plan.c). */
#ifndef PHX_PROTO_CHECK_H
#define PHX_PROTO_CHECK_H

#include "base/status.h"
#include "proto/control.pb-c.h"

#include <stddef.h>

/* Walks the message and all below it. block_bytes: size of the allocation that a string of a decoded message
 * lies in, which betrays a NUL inside it (protobuf-c allocates length + 1); NULL for messages that we made
 * ourselves. PHX_ERR_TOO_LONG past a limit of proto/limits.h, PHX_ERR_INVALID for everything else. */
phx_code phx_message_check(const ProtobufCMessage *message, size_t (*block_bytes)(const void *ptr),
                           phx_error *err);

#endif
