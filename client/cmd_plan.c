/* client/cmd_plan.c - `phalanx plan`: the account of every rank, before anything loads. */
#include "client/command.h"

#include "base/paths.h"
#include "model/request_options.h"

#define TEXT_BYTES_MAX (16u << 20)

static phx_code build_and_print(const phx_options *options, bool json, phx_buf *buf, phx_error *err)
{
    char dir[PHX_PATH_MAX];
    phx_checkpoint *checkpoint = NULL;
    phx_plan *plan = NULL;
    phx_plan_request request;
    phx_code rc = phx_command_model_dir(options, dir, sizeof(dir), err);
    if (rc == PHX_OK)
        rc = phx_checkpoint_open(dir, &checkpoint, err);
    if (rc == PHX_OK)
        rc = phx_plan_request_from_options(options, phx_checkpoint_dims(checkpoint), &request, err);
    if (rc == PHX_OK)
        rc = phx_plan_build(checkpoint, &request, &plan, err);
    if (rc != PHX_OK)
        goto out;
    if (json) {
        phx_plan_json(plan, buf);
        phx_buf_char(buf, '\n');
    } else {
        phx_plan_print(plan, buf);
    }
out:
    phx_plan_destroy(plan);
    phx_checkpoint_close(checkpoint);
    return rc;
}

phx_exit phx_command_plan(const phx_env *env, int argc, char *const *argv)
{
    bool json = false;
    const phx_flag flags[] = {{"json", NULL, "as JSON on one line", NULL, &json}};
    const phx_args_spec spec = {
        .usage = "phalanx plan --model DIR [options] [--json]",
        .about =
            "Prints which layers, heads and bytes each rank would hold and the longest context that fits.\n"
            "Reads headers only. When the model does not fit it says what would.",
        .scopes = PHX_OPTIONS_PLAN,
        .flags = flags,
        .n_flags = 1,
        .exit_codes =
            "  0 the plan works\n  1 it does not fit, or the checkpoint cannot be read\n  2 wrong usage\n",
    };
    phx_options options;
    phx_args args;
    phx_exit code = PHX_EXIT_DONE;
    phx_error err = {0};
    phx_buf buf;
    (void)env;
    if (!phx_command_begin(&spec, argc, argv, &options, &args, &code))
        return code;
    phx_buf_init(&buf, TEXT_BYTES_MAX);
    if (build_and_print(&options, json, &buf, &err) == PHX_OK)
        code = phx_command_print(&buf);
    else
        code = phx_command_fail(&err);
    phx_buf_done(&buf);
    return code;
}
