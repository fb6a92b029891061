/* proto/codec_sampling.h - sampling parameters between struct and message, and their ranges.
 * Private to proto/. */
#ifndef PHX_PROTO_CODEC_SAMPLING_H
#define PHX_PROTO_CODEC_SAMPLING_H

#include "proto/control.pb-c.h"
#include "proto/step_plan.h"

/* All but the bias arrays, which stay empty with n_bias set. */
phx_sampling phx_sampling_of_message(const Phalanx__Sampling *message);

/* One entry of the bias table; the id is compared with the vocabulary by phx_step_plan_check. */
phx_code phx_bias_check(uint32_t id, float bias, phx_error *err);

#endif
