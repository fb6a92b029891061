/* model/numerics.c - presets of the numerics profile and their text form. */
#include "model/numerics.h"

#include <stddef.h>

#define LEVEL_OPEN "auto" /* in texts: not agreed on yet */

static const char *const profile_names[] = {"serving", "official", "oracle"};

#define PROFILE_COUNT (sizeof(profile_names) / sizeof(profile_names[0]))

void phx_numerics_preset(phx_profile profile, phx_numerics *ret_numerics)
{
    const bool oracle = profile == PHX_PROFILE_ORACLE;
    const bool official = profile == PHX_PROFILE_OFFICIAL;
    *ret_numerics = (phx_numerics){
        .profile = profile,
        .act = oracle ? PHX_F32 : PHX_BF16,
        .cache = oracle ? PHX_F32 : PHX_BF16,
        .latent_eps = oracle || official ? PHX_LATENT_EPS_1E6 : PHX_LATENT_EPS_CONFIG,
        .index_wide = !oracle && !official, /* of the oracle all is f32 */
        .index_hadamard = official,
        .index_fp8 = official,
        .deterministic = true,
        .experts = PHX_EXPERTS_TP,
        .level = "ref",
    };
}

const char *phx_profile_name(phx_profile profile)
{
    return (size_t)profile < PROFILE_COUNT ? profile_names[profile] : "?";
}

bool phx_profile_parse(phx_str text, phx_profile *ret_profile)
{
    for (size_t i = 0; i < PROFILE_COUNT; i++) {
        if (phx_str_is(text, profile_names[i])) {
            *ret_profile = (phx_profile)i;
            return true;
        }
    }
    return false;
}

/* One knob with two named values; the field is an enum or a bool. */
typedef enum knob_kind { KNOB_DTYPE, KNOB_CACHE, KNOB_LATENT_EPS, KNOB_BOOL, KNOB_EXPERTS } knob_kind;

typedef struct knob {
    const char *key;
    knob_kind kind;
    size_t offset; /* of the field in phx_numerics */
} knob;

static const knob knobs[] = {
    {"act", KNOB_DTYPE, offsetof(phx_numerics, act)},
    {"cache", KNOB_CACHE, offsetof(phx_numerics, cache)},
    {"latent_eps", KNOB_LATENT_EPS, offsetof(phx_numerics, latent_eps)},
    {"index_wide", KNOB_BOOL, offsetof(phx_numerics, index_wide)},
    {"index_hadamard", KNOB_BOOL, offsetof(phx_numerics, index_hadamard)},
    {"index_fp8", KNOB_BOOL, offsetof(phx_numerics, index_fp8)},
    {"deterministic", KNOB_BOOL, offsetof(phx_numerics, deterministic)},
    {"experts", KNOB_EXPERTS, offsetof(phx_numerics, experts)},
};

#define KNOB_COUNT (sizeof(knobs) / sizeof(knobs[0]))

#define VALUES_MAX 3

/* Value names in the order of the values' numbers; NULL: there are no more. */
static const char *const value_names[][VALUES_MAX] = {
    [KNOB_DTYPE] = {"bf16", "f32"},         [KNOB_CACHE] = {"bf16", "f32", "fp8"},
    [KNOB_LATENT_EPS] = {"config", "1e-6"}, [KNOB_BOOL] = {"off", "on"},
    [KNOB_EXPERTS] = {"tp", "ep"},
};

static const phx_dtype knob_dtypes[VALUES_MAX] = {PHX_BF16, PHX_F32, PHX_F8_E4M3};

static void set_knob(phx_numerics *numerics, const knob *k, int value)
{
    const bool second = value == 1;
    char *field = (char *)numerics + k->offset;
    switch (k->kind) {
    case KNOB_DTYPE:
    case KNOB_CACHE:
        *(phx_dtype *)(void *)field = knob_dtypes[value];
        break;
    case KNOB_LATENT_EPS:
        *(phx_latent_eps *)(void *)field = second ? PHX_LATENT_EPS_1E6 : PHX_LATENT_EPS_CONFIG;
        break;
    case KNOB_BOOL:
        *(bool *)(void *)field = second;
        break;
    case KNOB_EXPERTS:
        *(phx_expert_mode *)(void *)field = second ? PHX_EXPERTS_EP : PHX_EXPERTS_TP;
        break;
    }
}

static int get_knob(const phx_numerics *numerics, const knob *k)
{
    const char *field = (const char *)numerics + k->offset;
    switch (k->kind) {
    case KNOB_DTYPE:
    case KNOB_CACHE: {
        const phx_dtype dtype = *(const phx_dtype *)(const void *)field;
        return dtype == PHX_F32 ? 1 : dtype == PHX_F8_E4M3 ? 2 : 0;
    }
    case KNOB_LATENT_EPS:
        return *(const phx_latent_eps *)(const void *)field == PHX_LATENT_EPS_1E6;
    case KNOB_BOOL:
        return *(const bool *)(const void *)field;
    case KNOB_EXPERTS:
        return *(const phx_expert_mode *)(const void *)field == PHX_EXPERTS_EP;
    }
    return 0;
}

static phx_code set_level(phx_numerics *numerics, phx_str value, phx_error *err)
{
    char level[sizeof(numerics->level)];
    if (phx_str_is(value, LEVEL_OPEN)) {
        numerics->level[0] = 0;
        return PHX_OK;
    }
    for (size_t i = 0; i < value.n; i++) {
        const char c = value.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'))
            return PHX_FAIL(err, PHX_ERR_INVALID, "numerics level '%.*s' is not a level name",
                            PHX_STR_ARG(value));
    }
    if (value.n == 0 || !phx_str_copy(level, sizeof(level), value))
        return PHX_FAIL(err, PHX_ERR_INVALID, "numerics level '%.*s' is empty or too long",
                        PHX_STR_ARG(value));
    memcpy(numerics->level, level, sizeof(level));
    return PHX_OK;
}

phx_code phx_numerics_set(phx_numerics *numerics, phx_str assignment, phx_error *err)
{
    const char *equals = assignment.n ? memchr(assignment.ptr, '=', assignment.n) : NULL;
    if (!equals)
        return PHX_FAIL(err, PHX_ERR_INVALID, "numerics knob '%.*s' has no '=': write key=value",
                        PHX_STR_ARG(assignment));
    const phx_str key = {assignment.ptr, (size_t)(equals - assignment.ptr)};
    const phx_str value = {equals + 1, assignment.n - key.n - 1};
    if (phx_str_is(key, "level"))
        return set_level(numerics, value, err);
    for (size_t i = 0; i < KNOB_COUNT; i++) {
        if (!phx_str_is(key, knobs[i].key))
            continue;
        const char *const *names = value_names[knobs[i].kind];
        for (int v = 0; v < VALUES_MAX && names[v]; v++) {
            if (phx_str_is(value, names[v])) {
                set_knob(numerics, &knobs[i], v);
                return PHX_OK;
            }
        }
        return PHX_FAIL(err, PHX_ERR_INVALID, "numerics knob %s cannot be '%.*s': choose %s%s%s or %s",
                        knobs[i].key, PHX_STR_ARG(value), names[0], names[2] ? ", " : "",
                        names[2] ? names[1] : "", names[2] ? names[2] : names[1]);
    }
    return PHX_FAIL(
        err, PHX_ERR_INVALID,
        "unknown numerics knob '%.*s': there are act, cache, latent_eps, index_hadamard, index_fp8, "
        "deterministic, experts, level",
        PHX_STR_ARG(key));
}

void phx_numerics_print(const phx_numerics *numerics, phx_buf *buf)
{
    phx_buf_printf(buf, "profile=%s", phx_profile_name(numerics->profile));
    for (size_t i = 0; i < KNOB_COUNT; i++)
        phx_buf_printf(buf, " %s=%s", knobs[i].key,
                       value_names[knobs[i].kind][get_knob(numerics, &knobs[i])]);
    phx_buf_printf(buf, " level=%s", numerics->level[0] ? numerics->level : LEVEL_OPEN);
}

phx_hash phx_numerics_hash(const phx_numerics *numerics)
{
    phx_hasher hasher;
    phx_hasher_init(&hasher);
    phx_hasher_add_text(&hasher, phx_profile_name(numerics->profile));
    for (size_t i = 0; i < KNOB_COUNT; i++)
        phx_hasher_add_u64(&hasher, (uint64_t)get_knob(numerics, &knobs[i]));
    phx_hasher_add_text(&hasher, numerics->level);
    return phx_hasher_final(&hasher);
}

phx_code phx_numerics_parse(phx_str text, phx_numerics *ret_numerics, phx_error *err)
{
    static const char profile_key[] = "profile=";
    phx_numerics numerics;
    phx_numerics_preset(PHX_PROFILE_SERVING, &numerics);
    for (size_t at = 0; at < text.n;) {
        size_t end = at;
        while (end < text.n && text.ptr[end] != ' ')
            end++;
        const phx_str word = {text.ptr + at, end - at};
        phx_profile profile;
        phx_code rc = PHX_OK;
        if (phx_str_starts(word, phx_str_of(profile_key))) {
            const phx_str name = {word.ptr + strlen(profile_key), word.n - strlen(profile_key)};
            if (phx_profile_parse(name, &profile))
                phx_numerics_preset(profile, &numerics);
            else
                rc = PHX_FAIL(err, PHX_ERR_INVALID, "unknown profile '%.*s'", PHX_STR_ARG(name));
        } else if (word.n) {
            rc = phx_numerics_set(&numerics, word, err);
        }
        if (rc != PHX_OK)
            return rc;
        at = end + 1;
    }
    *ret_numerics = numerics;
    return PHX_OK;
}

bool phx_numerics_on_device(const phx_numerics *numerics)
{
    return strcmp(numerics->level, "emu") == 0 || strncmp(numerics->level, "sm", 2) == 0;
}

bool phx_numerics_may_round(const phx_numerics *numerics)
{
    return !numerics->deterministic && numerics->act == PHX_BF16 &&
           (strcmp(numerics->level, "emu") == 0 || strcmp(numerics->level, "sm90") == 0 ||
            strcmp(numerics->level, "sm") == 0); /* not known yet: room for it is planned */
}

phx_dtype phx_numerics_index_keys(const phx_numerics *numerics)
{
    return numerics->cache == PHX_F32 ? PHX_F32 : numerics->index_wide ? PHX_F16 : PHX_BF16;
}
