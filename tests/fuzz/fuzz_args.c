/* tests/fuzz/fuzz_args.c - a command line. Input: arguments, one a line; no --config, which reads files. */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_options_check.h"

#include "base/alloc.h"

#define ARGS_MAX 40

static bool is_config(const char *arg)
{
    return strncmp(arg, "--config", 8) == 0;
}

/* Lines of text as arguments behind argv[0]; every line end becomes a terminator. */
static int split(char *text, size_t n, char **argv)
{
    int argc = 1;
    for (size_t at = 0; at < n && argc < ARGS_MAX; argc++) {
        char *end = memchr(text + at, '\n', n - at);
        argv[argc] = text + at;
        if (end)
            *end = 0;
        at += end ? (size_t)(end - (text + at)) + 1 : n - at;
    }
    return argc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    const char *out_path = NULL;
    bool is_json = false;
    const phx_flag flags[] = {
        {.name = "json", .help = "as JSON", .ret_on = &is_json},
        {.name = "out", .meta = "FILE", .help = "where to", .ret_text = &out_path},
    };
    const phx_args_spec spec = {.usage = "fuzz",
                                .about = "",
                                .scopes = PHX_OPTIONS_ALL,
                                .flags = flags,
                                .n_flags = 2,
                                .n_operands_max = 3};
    char *argv[ARGS_MAX + 1] = {(char *)(uintptr_t) "fuzz"};
    char *text = phx_strdup_n((const char *)data, n_bytes);
    phx_options options;
    phx_options before;
    phx_args args;
    phx_error err = {0};
    phx_code rc;
    FUZZ_CHECK(text != NULL);
    const int argc = split(text, n_bytes, argv);
    memset(&options, 0, sizeof(options));
    phx_options_init(&options);
    memcpy(&before, &options, sizeof(before));
    for (int i = 1; i < argc; i++)
        if (is_config(argv[i]))
            goto out;
    rc = phx_options_parse_args(&options, argc, argv, &spec, &args, &err);
    if (rc != PHX_OK) {
        fuzz_check_refusal(rc, &err);
        FUZZ_CHECK(memcmp(&options, &before, sizeof(before)) == 0);
        goto out;
    }
    FUZZ_CHECK(args.n_operands <= 3);
    FUZZ_CHECK(args.config == NULL);
    fuzz_check_options(&options);
out:
    phx_free(text);
    return 0;
}
