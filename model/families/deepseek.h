/* model/families/deepseek.h - the DeepSeek V3 and V3.2 tables, listed by model/family.c only. */
#ifndef PHX_MODEL_FAMILIES_DEEPSEEK_H
#define PHX_MODEL_FAMILIES_DEEPSEEK_H

#include "model/family.h"

extern const phx_family phx_family_deepseek_v3;
extern const phx_family phx_family_deepseek_v32;

#endif
