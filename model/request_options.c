/* model/request_options.c - from the keys that a person gave to a plan request. */
#include "model/request_options.h"

static bool given(const phx_options *options, phx_option option)
{
    return options->source[option] != PHX_OPTION_DEFAULT;
}

/* --ep N is short for --experts ep --tp N: other values of those two contradict it. */
static phx_code read_degrees(const phx_options *options, phx_layout *layout, phx_error *err)
{
    layout->tp = options->tp;
    layout->experts = strcmp(options->experts, "ep") == 0 ? PHX_EXPERTS_EP : PHX_EXPERTS_TP;
    if (options->ep == 0)
        return PHX_OK;
    if (given(options, PHX_OPTION_tp) && options->tp != options->ep)
        return PHX_FAIL(err, PHX_ERR_INVALID, "ep %u with tp %u: they must be equal, so give one of them",
                        options->ep, options->tp);
    if (given(options, PHX_OPTION_experts) && layout->experts == PHX_EXPERTS_TP)
        return PHX_FAIL(err, PHX_ERR_INVALID, "ep %u contradicts experts tp", options->ep);
    layout->tp = options->ep;
    layout->experts = PHX_EXPERTS_EP;
    return PHX_OK;
}

/* Length of the name before '='. */
static size_t name_bytes(phx_str knob)
{
    const char *equals = memchr(knob.ptr, '=', knob.n);
    return equals ? (size_t)(equals - knob.ptr) : knob.n;
}

/* Whether the list says the knob that stands at `at` before, too. */
static bool said_before(phx_str list, size_t at, phx_str knob)
{
    for (size_t first = 0; first < at;) {
        const char *comma = memchr(list.ptr + first, ',', list.n - first);
        const size_t end = (size_t)(comma - list.ptr); /* there is one before `at` */
        const phx_str other = {list.ptr + first, end - first};
        if (phx_str_eq((phx_str){other.ptr, name_bytes(other)}, (phx_str){knob.ptr, name_bytes(knob)}))
            return true;
        first = end + 1;
    }
    return false;
}

static phx_code read_knobs(const phx_options *options, phx_numerics *numerics, phx_error *err)
{
    const phx_str list = phx_str_of(options->numerics);
    for (size_t at = 0; at < list.n;) {
        const char *comma = memchr(list.ptr + at, ',', list.n - at);
        const size_t end = comma ? (size_t)(comma - list.ptr) : list.n;
        const phx_str knob = {list.ptr + at, end - at};
        /* These four have options of their own, so that there is one place to look. */
        if (phx_str_starts(knob, phx_str_of("experts=")) || phx_str_starts(knob, phx_str_of("level=")) ||
            phx_str_starts(knob, phx_str_of("deterministic=")) || phx_str_starts(knob, phx_str_of("cache=")))
            return PHX_FAIL(err, PHX_ERR_INVALID, "numerics knob '%.*s': use the option of that name",
                            PHX_STR_ARG(knob));
        if (said_before(list, at, knob))
            return PHX_FAIL(err, PHX_ERR_INVALID, "numerics knob '%.*s': given twice", (int)name_bytes(knob),
                            knob.ptr);
        const phx_code rc = phx_numerics_set(numerics, knob, err);
        if (rc != PHX_OK)
            return rc;
        at = end + 1;
    }
    return PHX_OK;
}

static phx_code read_numerics(const phx_options *options, phx_expert_mode experts, phx_numerics *ret_numerics,
                              phx_error *err)
{
    phx_profile profile;
    phx_numerics numerics;
    if (!phx_profile_parse(phx_str_of(options->profile), &profile))
        return PHX_FAIL(err, PHX_ERR_INVALID, "unknown profile '%s'", options->profile);
    phx_numerics_preset(profile, &numerics);
    phx_code rc = read_knobs(options, &numerics, err);
    if (rc != PHX_OK)
        return rc;
    if (strcmp(options->cache, "auto") != 0) {
        char knob[32] = "cache=";
        (void)phx_str_copy(knob + 6, sizeof(knob) - 6, phx_str_of(options->cache));
        rc = phx_numerics_set(&numerics, phx_str_of(knob), err);
        if (rc != PHX_OK)
            return rc;
    }
    numerics.deterministic = options->deterministic;
    numerics.experts = experts;
    const bool emu = strcmp(options->backend, "emu") == 0, cuda = strcmp(options->backend, "cuda") == 0;
    if ((emu || cuda) && strcmp(options->level, "auto") != 0)
        return PHX_FAIL(err, PHX_ERR_INVALID, "--level %s is a level of the CPU: not with --backend %s",
                        options->level, options->backend);
    numerics.level[0] = 0; /* the group agrees on the best that all ranks have */
    if (emu || cuda)
        rc = phx_numerics_set(&numerics, phx_str_of(emu ? "level=emu" : "level=sm"), err);
    if (strcmp(options->level, "auto") != 0) {
        char knob[32] = "level=";
        (void)phx_str_copy(knob + 6, sizeof(knob) - 6, phx_str_of(options->level));
        rc = phx_numerics_set(&numerics, phx_str_of(knob), err);
    }
    if (rc == PHX_OK)
        *ret_numerics = numerics;
    return rc;
}

phx_code phx_plan_request_from_options(const phx_options *options, const phx_dims *dims,
                                       phx_plan_request *ret_request, phx_error *err)
{
    phx_plan_request request;
    phx_plan_request_default(&request);
    phx_code rc = read_degrees(options, &request.layout, err);
    if (rc == PHX_OK)
        rc = phx_layout_parse_pp(phx_str_of(options->pp), dims, &request.layout, err);
    if (rc == PHX_OK)
        rc = phx_layout_check(&request.layout, dims, err);
    if (rc == PHX_OK)
        rc = read_numerics(options, request.layout.experts, &request.numerics, err);
    if (rc != PHX_OK)
        return rc;
    request.memory_bytes = options->memory;
    request.n_threads = options->threads;
    request.n_context = options->context;
    request.n_batch = options->max_batch;
    request.n_step_tokens = options->step_tokens;
    request.n_cache_tokens = options->cache_tokens;
    if (options->drafts && !options->mtp)
        return PHX_FAIL(err, PHX_ERR_INVALID, "--drafts %u needs --mtp on", options->drafts);
    if (options->mtp)
        request.n_drafts = options->drafts ? options->drafts : PHX_DRAFTS_DEFAULT;
    *ret_request = request;
    return PHX_OK;
}
