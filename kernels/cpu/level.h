/* kernels/cpu/level.h - the names of one level: each source of this folder is compiled once per level, with
 * PHX_CPU_LEVEL (avx2, avx512, avx512_cform) as the suffix of every name that is visible outside the file.
 * Owns: that suffix, the declarations of the C form. */
#ifndef PHX_KERNELS_CPU_LEVEL_H
#define PHX_KERNELS_CPU_LEVEL_H

#include "kernels/ops.h"

#define PHX_CPU_JOIN2(a, b) a##_##b
#define PHX_CPU_JOIN(a, b)  PHX_CPU_JOIN2(a, b)
#define PHX_CPU(name)       PHX_CPU_JOIN(name, PHX_CPU_LEVEL)

#define PHX_OP(op, level, fn) phx_##op##_fn fn;
#include "kernels/ops_cform.list"
#undef PHX_OP

#endif
