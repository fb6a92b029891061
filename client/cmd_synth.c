/* client/cmd_synth.c - `phalanx synth`: a random checkpoint in the layout of the hub. */
#include "client/command.h"

#include <stdio.h>

#include "client/terminal.h"
#include "model/synth.h"

typedef struct synth_args {
    const char *preset;
    const char *config;
    const char *format;
    const char *seed;
    const char *out;
    const char *shards;
    bool sparse;
    bool list;
} synth_args;

static phx_exit print_presets(void)
{
    size_t n = 0;
    const phx_preset *presets = phx_preset_list(&n);
    phx_exit code;
    phx_buf buf;
    phx_buf_init(&buf, 1u << 16);
    for (size_t i = 0; i < n; i++)
        phx_buf_printf(&buf, "%-16s %-10s %s\n", presets[i].name, phx_synth_format_name(presets[i].format),
                       presets[i].meaning);
    code = phx_command_print(&buf);
    phx_buf_done(&buf);
    return code;
}

static void show(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
    phx_progress_show(user, "writing", done_bytes, total_bytes, NULL);
}

/* Turns words into a request; dims lives with the caller. */
static phx_code read_request(const synth_args *args, phx_dims *dims, phx_synth_request *request,
                             phx_error *err)
{
    uint64_t n_shards = 0;
    if (!args->out || (args->preset != NULL) == (args->config != NULL))
        return PHX_FAIL(err, PHX_ERR_INVALID, "give --out DIR and either --preset NAME or --config FILE");
    *request = (phx_synth_request){.dims = dims, .format = PHX_SYNTH_BF16, .out_dir = args->out};
    if (args->preset) {
        const phx_preset *preset = phx_preset_find(phx_str_of(args->preset));
        if (!preset)
            return PHX_FAIL(err, PHX_ERR_INVALID, "there is no preset '%.60s': --list names them",
                            args->preset);
        *dims = preset->dims;
        request->format = preset->format;
        request->n_shards = preset->n_shards;
        request->extras = preset->extras;
    } else {
        const phx_code rc = phx_synth_config(args->config, dims, err);
        if (rc != PHX_OK)
            return rc;
    }
    if (args->format && !phx_synth_format_parse(phx_str_of(args->format), &request->format))
        return PHX_FAIL(err, PHX_ERR_INVALID, "there is no format '%.40s': see --help", args->format);
    if (args->seed && !phx_str_to_u64(phx_str_of(args->seed), 0, UINT64_MAX, &request->seed))
        return PHX_FAIL(err, PHX_ERR_INVALID, "--seed '%.40s' is not a number", args->seed);
    if (args->shards) {
        if (!phx_str_to_u64(phx_str_of(args->shards), 1, 100000, &n_shards))
            return PHX_FAIL(err, PHX_ERR_INVALID, "--shards '%.40s' is not a number from 1 to 100000",
                            args->shards);
        request->n_shards = (uint32_t)n_shards;
    }
    request->sparse = args->sparse;
    return PHX_OK;
}

phx_exit phx_command_synth(const phx_env *env, int argc, char *const *argv)
{
    synth_args given = {0};
    const phx_flag flags[] = {
        {"preset", "NAME", "dimensions of a known model; --list names them", &given.preset, NULL},
        {"config", "FILE", "dimensions from a config.json", &given.config, NULL},
        {"format", "F", "f32, bf16, f16, fp8, fp8-ue8m0 or int4 [as published, or bf16]", &given.format,
         NULL},
        {"seed", "N", "of the random weights [0]", &given.seed, NULL},
        {"shards", "N", "number of files [as published, or by size]", &given.shards, NULL},
        {"sparse", NULL, "headers and holes: real sizes, all numbers zero", NULL, &given.sparse},
        {"out", "DIR", "folder to write; it must hold no model", &given.out, NULL},
        {"list", NULL, "print the presets", NULL, &given.list},
    };
    const phx_args_spec spec = {
        .usage = "phalanx synth --preset NAME | --config FILE [--format F] [--seed N] [--sparse] --out DIR",
        .about = "Writes a checkpoint with random weights. The same dimensions, format and seed give the "
                 "same bytes.",
        .flags = flags,
        .n_flags = sizeof(flags) / sizeof(flags[0]),
    };
    phx_options options;
    phx_args args;
    phx_exit code = PHX_EXIT_DONE;
    phx_error err = {0};
    phx_dims dims = {0};
    phx_synth_request request;
    phx_progress progress;
    (void)env;
    if (!phx_command_begin(&spec, argc, argv, &options, &args, &code))
        return code;
    if (given.list)
        return print_presets();
    if (read_request(&given, &dims, &request, &err) != PHX_OK)
        return err.code == PHX_ERR_INVALID ? phx_command_fail_usage(err.text) : phx_command_fail(&err);
    phx_progress_init(&progress);
    request.progress = show;
    request.user = &progress;
    const phx_code rc = phx_synth_write(&request, &err);
    phx_progress_end(&progress);
    if (rc != PHX_OK)
        return phx_command_fail(&err);
    (void)fprintf(stderr, "wrote %s\n", given.out);
    return PHX_EXIT_DONE;
}
