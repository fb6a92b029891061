/* model/request_options.h - from the keys that a person gave to a plan request.
 * Owns: what layout, numerics and memory options mean together, and which of them contradict each other. */
#ifndef PHX_MODEL_REQUEST_OPTIONS_H
#define PHX_MODEL_REQUEST_OPTIONS_H

#include "base/options.h"
#include "model/plan.h"

/* Level "auto" leaves numerics.level empty: the group fills in what its machines have. PHX_ERR_INVALID
 * names the option that is wrong or contradicts another. Layouts are checked against dims (phx_layout_check).
 */
phx_code phx_plan_request_from_options(const phx_options *options, const phx_dims *dims,
                                       phx_plan_request *ret_request, phx_error *err);

#endif
