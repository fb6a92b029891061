/* client/bench_drafts.h - `phalanx bench drafts`: what drafts promise against what they bring. */
#ifndef PHX_CLIENT_BENCH_DRAFTS_H
#define PHX_CLIENT_BENCH_DRAFTS_H

#include "client/command.h"

phx_exit phx_bench_drafts(const phx_env *env, int argc, char *const *argv);

#endif
