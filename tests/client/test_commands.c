/* tests/client/test_commands.c - the commands that need no server, run as a person would run them: exit
 * codes, JSON, help of every command. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/json.h"

#define OUTPUT_MAX (1u << 20)

static const char *or_else(const char *name, const char *value)
{
    const char *found = getenv(name);
    return found ? found : value;
}

/* Runs phalanx with the words (NULL-terminated); stdout (or stderr, with_errors) is appended to out. n_files:
 * how many it may have open; 0: as many as we. */
static int run_limited(const char *const *words, bool with_errors, rlim_t n_files, phx_buf *out)
{
    char program[4096];
    char *argv[24] = {program};
    int ends[2];
    int status = 0;
    char chunk[4096];
    (void)snprintf(program, sizeof(program), "%s/phalanx", or_else("PHX_BUILD", "build"));
    for (size_t i = 0; words[i]; i++) {
        assert_true(i < 22);
        argv[i + 1] = (char *)(uintptr_t)words[i];
    }
    assert_int_equal(pipe(ends), 0);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)dup2(ends[1], with_errors ? STDERR_FILENO : STDOUT_FILENO);
        (void)close(ends[0]);
        (void)close(ends[1]);
        if (n_files > 0)
            (void)setrlimit(RLIMIT_NOFILE, &(struct rlimit){n_files, n_files});
        (void)execv(program, argv);
        _exit(127);
    }
    (void)close(ends[1]);
    for (ssize_t n = 0; (n = read(ends[0], chunk, sizeof(chunk))) > 0;)
        (void)phx_buf_append(out, chunk, (size_t)n);
    (void)close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int run(const char *const *words, bool with_errors, phx_buf *out)
{
    return run_limited(words, with_errors, 0, out);
}

static phx_json *run_json(const char *const *words)
{
    phx_buf out;
    phx_json *root = NULL;
    phx_error err = {0};
    phx_buf_init(&out, OUTPUT_MAX);
    assert_int_equal(run(words, false, &out), 0);
    const phx_bytes text = {(const uint8_t *)out.ptr, out.n};
    if (phx_json_parse(text, PHX_JSON_LIMITS_FILE, &root, &err) != PHX_OK)
        fail_msg("%s", err.text);
    phx_buf_done(&out);
    return root;
}

static int64_t number(const phx_json *object, const char *key)
{
    int64_t value = -1;
    if (!phx_json_as_i64(phx_json_get(object, key), &value))
        fail_msg("no number '%s'", key);
    return value;
}

static void inspect_of_the_bundled_cases(void **state)
{
    (void)state;
    char dir[4096];
    (void)snprintf(dir, sizeof(dir), "%s/tests/data/golden/deepseek-v32-fp8", or_else("PHX_SOURCE", "."));
    const char *words[] = {"inspect", "--model", dir, "--json", NULL};
    phx_json *root = run_json(words);
    phx_str family;
    assert_true(phx_json_as_str(phx_json_get(root, "family"), &family));
    assert_true(phx_str_is(family, "deepseek_v32"));
    const phx_json *main_graph = phx_json_get(root, "main");
    const phx_json *mtp = phx_json_get(root, "mtp");
    const phx_json *formats = phx_json_get(root, "formats");
    int64_t n_tensors = 0;
    int64_t n_bytes = 0;
    for (phx_json_member it = phx_json_first(formats); it.value; it = phx_json_next(formats, it)) {
        n_tensors += number(it.value, "n_tensors");
        n_bytes += number(it.value, "n_bytes");
    }
    assert_int_equal(number(main_graph, "n_tensors") + number(mtp, "n_tensors"), number(root, "n_weights"));
    assert_int_equal(n_tensors, number(root, "n_weights"));
    assert_int_equal(n_bytes, number(root, "n_bytes"));
    assert_int_equal(number(main_graph, "n_parameters") + number(mtp, "n_parameters"),
                     number(root, "n_parameters"));
    assert_int_equal(number(phx_json_get(root, "dims"), "index_topk"), 16);
    assert_int_equal(phx_json_count(phx_json_get(root, "missing")), 0);
    assert_int_equal(phx_json_count(phx_json_get(root, "unexpected")), 0);
    phx_json_destroy(root);
}

/* Which kernels compute is known when the ranks are; until then the plan names what was asked for. */
static void plan_claims_no_level(void **state)
{
    (void)state;
    char dir[4096];
    const char *words[] = {"plan", "--model", dir, "--memory", "256M", "--level", "auto", NULL};
    (void)snprintf(dir, sizeof(dir), "%s/tests/data/golden/deepseek-v3-qdirect", or_else("PHX_SOURCE", "."));
    for (int i = 0; i < 2; i++) {
        phx_buf out;
        phx_buf_init(&out, OUTPUT_MAX);
        words[6] = i == 0 ? "auto" : "ref";
        assert_int_equal(run(words, false, &out), 0);
        if (!strstr(out.ptr, i == 0 ? " level=auto\n" : " level=ref\n"))
            fail_msg("%s", out.ptr);
        phx_buf_done(&out);
    }
}

static void plan_of_the_bundled_cases(void **state)
{
    (void)state;
    char dir[4096];
    int64_t weights[2] = {0};
    (void)snprintf(dir, sizeof(dir), "%s/tests/data/golden/deepseek-v3-qdirect", or_else("PHX_SOURCE", "."));
    const char *const pp[] = {"1", "2:0,1"};
    for (int i = 0; i < 2; i++) {
        const char *words[] = {"plan",     "--model", dir,         "--tp", "2",      "--pp", pp[i],
                               "--memory", "256M",    "--context", "128",  "--json", NULL};
        phx_json *root = run_json(words);
        const phx_json *ranks = phx_json_get(root, "ranks");
        assert_int_equal(phx_json_count(ranks), 2 * (i + 1));
        for (size_t r = 0; r < phx_json_count(ranks); r++) {
            weights[i] += number(phx_json_at(ranks, r), "weights_bytes");
            assert_true(number(phx_json_at(ranks, r), "total_bytes") <= 256 << 20);
        }
        assert_int_equal(number(root, "n_context"), 128);
        phx_json_destroy(root);
    }
    assert_int_equal(weights[0], weights[1]); /* stages share nothing */
}

#define TEN       "1,2,3,4,5,6,7,8,9,10"
#define TOKENS_70 "--tokens=" TEN "," TEN "," TEN "," TEN "," TEN "," TEN "," TEN

typedef struct refusal {
    int code;
    const char *text; /* on stderr */
    const char *words[8];
} refusal;

static void refusals_say_why(void **state)
{
    (void)state;
    static const char qdirect[] =
        "tests/data/golden/deepseek-v3-qdirect"; /* tests run in the source folder */
    static const refusal cases[] = {
        {2, "Usage: phalanx COMMAND", {NULL}},
        {2, "there is no command 'frobnicate'", {"frobnicate", NULL}},
        {2, "--tp cannot be '0'", {"plan", "--tp=0", NULL}},
        {2, "--tp means nothing", {"inspect", "--tp=1", NULL}},
        {1, "/nonexistent", {"inspect", "--model", "/nonexistent", NULL}},
        {2, "ep 2 with tp 4", {"plan", "--model", qdirect, "--ep=2", "--tp=4", NULL}},
        {2, "use the option of that name", {"plan", "--model", qdirect, "--numerics=level=avx2", NULL}},
        {2, "use the option of that name", {"plan", "--model", qdirect, "--numerics=cache=fp8", NULL}},
        {2, "--cache cannot be 'int4'", {"plan", "--model", qdirect, "--cache=int4", NULL}},
        {1, "may use 0.001 GB", {"plan", "--model", qdirect, "--memory=1MB", NULL}},
        {2, "--preset NAME or --config FILE", {"synth", "--out", "/nonexistent/x", NULL}},
        {2,
         "of 3 tokens none is reused",
         {"logits", "--model", qdirect, "--tokens=1,2,3", "--out=/tmp/x.npy", "--warm=2", NULL}},
        {2,
         "give a multiple of 64 up to 64",
         {"logits", "--model", qdirect, TOKENS_70, "--out=/tmp/x.npy", "--warm=63", NULL}},
        {2,
         "give a multiple of 64 up to 64",
         {"logits", "--model", qdirect, TOKENS_70, "--out=/tmp/x.npy", "--warm=128", NULL}},
        {2, "give --to int4-g32|fp8", {"quantize", "--to", "fp8", "--out", "/nonexistent/x", NULL}},
        {2,
         "--window is a number from 2",
         {"quantize", "--to=fp8", "--model=m", "--out=o", "--window=12", NULL}},
        {2,
         "--window is a number from 2",
         {"quantize", "--to=fp8", "--model=m", "--out=o", "--text=f", "--window=1", NULL}},
        {2, "--to takes int4-g32 or fp8", {"quantize", "--to=q4", "--model=m", "--out=o", NULL}},
        {2, "there is no preset 'x'", {"synth", "--out", "/nonexistent/x", "--preset=x", NULL}},
        {2, "the model was made for", {"plan", "--model", qdirect, "--context=999999", NULL}},
        {2, "neither tcp", {"serve", "--model", qdirect, "--http=off", "--control=nowhere", NULL}},
        {2, "needs a key file", {"run", "hi", "--connect=tcp://127.0.0.1:1", NULL}},
        {1, "/nonexistent", {"run", "hi", "--connect=tcp://127.0.0.1:1", "--key-file=/nonexistent", NULL}},
        {2, "goes with --connect", {"run", "hi", "--key-file=/nonexistent", NULL}},
        {2, "goes with --connect", {"status", "--key-file=/nonexistent", NULL}},
        {2, "neither digit", {"logits", "--model", qdirect, "--tokens=1,x", "--out=/dev/null", NULL}},
        {1,
         "/nonexistent",
         {"logits", "--model", qdirect, "--tokens=@/nonexistent", "--out=/dev/null", NULL}},
        {1, "--out", {"logits", "--model", qdirect, "--tokens=1", "--out=/nonexistent/x", NULL}},
        {3, "/nonexistent", {"verify", "--model", qdirect, "/nonexistent", NULL}},
        {2, "there is no format 'q9'", {"synth", "--out", "/x", "--preset=ds-3b", "--format=q9", NULL}},
    };
    assert_int_equal(chdir(or_else("PHX_SOURCE", ".")), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        phx_buf out;
        phx_buf_init(&out, OUTPUT_MAX);
        const int code = run(cases[i].words, true, &out);
        if (code != cases[i].code || !out.ptr || !strstr(out.ptr, cases[i].text))
            fail_msg("case %zu: exit %d, said '%s', expected %d, '%s'", i, code, out.ptr ? out.ptr : "",
                     cases[i].code, cases[i].text);
        phx_buf_done(&out);
    }
}

#define DIR_MODEL "tests/data/golden/deepseek-v32-fp8"
#define DIR_NONE  "tests/data/golden" /* no checkpoint */
#define NOBODY    "ipc:///nonexistent/control"

enum { ROWS_MAX = 12, COMMANDS_MAX = 15 };

/* What is added to the call of each command, and the code that running.md promises. */
typedef struct wrong {
    const char *words[4];
    int codes[COMMANDS_MAX];
} wrong;

/* Right but for what is added. */
static const char *const callers[COMMANDS_MAX][6] = {
    {"serve", "--http=off"},
    {"run", "hi"},
    {"chat"},
    {"status"},
    {"verify", DIR_MODEL "/golden.safetensors"},
    {"logits", "--tokens=1,2", "--out=/dev/null"},
    {"plan"},
    {"inspect"},
    {"synth", "--preset=ds-3b", "--out=/nonexistent/x"},
    {"quantize", "--to=fp8", "--out=/nonexistent/x", "--text=README.md"},
    {"bench", "engine"},
    {"bench", "drafts"},
    {"bench", "machine"},
    {"bench", "kernels"},
    {"bench", "rank"},
};

static const wrong wrongs[ROWS_MAX] = {
    /*                        serve run chat status verify logits plan inspect synth quantize bench... */
    {{"--frobnicate"}, {2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2}},
    {{"one", "two"}, {2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2}},
    {{"--threads"}, {2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2}},
    {{"--threads=many"}, {2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2}},
    {{"--model=" DIR_MODEL, "--tp=3"}, {2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2}},
    {{"--model=" DIR_MODEL, "--pp=2:0,99"}, {2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2}},
    {{"--model=" DIR_MODEL, "--numerics=x=y"}, {2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2}},
    {{"--config=/nonexistent"}, {2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2}},
    {{"--model=/nonexistent"}, {3, 1, 1, 2, 3, 1, 1, 1, 2, 1, 1, 1, 2, 2, 2}},
    {{"--model=" DIR_NONE}, {3, 1, 1, 2, 3, 1, 1, 1, 2, 1, 1, 1, 2, 2, 2}},
    {{"--connect=" NOBODY}, {2, 3, 3, 3, 3, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2}},
    {{"--connect=nowhere"}, {2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2}},
};

static void codes_are_those_of_the_table(void **state)
{
    (void)state;
    assert_int_equal(chdir(or_else("PHX_SOURCE", ".")), 0);
    for (size_t c = 0; c < COMMANDS_MAX; c++) {
        for (size_t i = 0; i < ROWS_MAX; i++) {
            const char *words[12] = {NULL};
            size_t n = 0;
            phx_buf out;
            for (size_t k = 0; k < 6 && callers[c][k]; k++)
                words[n++] = callers[c][k];
            for (size_t k = 0; k < 4 && wrongs[i].words[k]; k++)
                words[n++] = wrongs[i].words[k];
            phx_buf_init(&out, OUTPUT_MAX);
            const int code = run(words, true, &out);
            if (code != wrongs[i].codes[c] || out.n == 0)
                fail_msg("%s %s ... %s: exit %d, expected %d, said '%s'", words[0], words[1] ? words[1] : "",
                         words[n - 1], code, wrongs[i].codes[c], out.ptr ? out.ptr : "");
            phx_buf_done(&out);
        }
    }
}

/* One line with the remedy, where the messaging library would have aborted. */
static void few_descriptors_are_refused(void **state)
{
    (void)state;
    static const char *const commands[][4] = {
        {"run", "hi", NULL}, {"status", NULL}, {"serve", "--http=off", NULL}};
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        phx_buf out;
        phx_buf_init(&out, OUTPUT_MAX);
        const int code = run_limited(commands[i], true, 16, &out);
        if (code == 0 || code == 2 || !out.ptr || !strstr(out.ptr, "only 16 files may be open"))
            fail_msg("%s: exit %d, said '%s'", commands[i][0], code, out.ptr ? out.ptr : "");
        phx_buf_done(&out);
    }
}

static void every_command_has_help(void **state)
{
    (void)state;
    const char *usage_words[] = {"--help", NULL};
    phx_buf usage;
    phx_buf_init(&usage, OUTPUT_MAX);
    assert_int_equal(run(usage_words, false, &usage), 0);
    size_t n_commands = 0;
    const char *line = strstr(usage.ptr, "\n\n  ");
    assert_non_null(line);
    for (line += 2; line[0] == ' '; line = strchr(line, '\n') + 1) {
        char name[32] = "";
        phx_buf help;
        assert_int_equal(sscanf(line, " %31s", name), 1);
        const char *words[] = {name, "--help", NULL};
        phx_buf_init(&help, OUTPUT_MAX);
        assert_int_equal(run(words, false, &help), 0);
        if (!strstr(help.ptr, "Usage: phalanx") || !strstr(help.ptr, name) || !strstr(help.ptr, "Exit codes"))
            fail_msg("help of %s: %s", name, help.ptr);
        phx_buf_done(&help);
        n_commands++;
    }
    assert_true(n_commands >= 3);
    static const char *const modes[] = {"engine", "drafts", "machine", "kernels"};
    for (size_t i = 0; i < 4; i++) {
        const char *words[] = {"bench", modes[i], "--help", NULL};
        phx_buf help;
        phx_buf_init(&help, OUTPUT_MAX);
        assert_int_equal(run(words, false, &help), 0);
        if (!strstr(help.ptr, "Usage: phalanx bench") || !strstr(help.ptr, modes[i]) ||
            !strstr(help.ptr, "Exit codes"))
            fail_msg("help of bench %s: %s", modes[i], help.ptr);
        phx_buf_done(&help);
    }
    phx_buf_done(&usage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_are_those_of_the_table),
        cmocka_unit_test(inspect_of_the_bundled_cases),
        cmocka_unit_test(plan_claims_no_level),
        cmocka_unit_test(plan_of_the_bundled_cases),
        cmocka_unit_test(refusals_say_why),
        cmocka_unit_test(few_descriptors_are_refused),
        cmocka_unit_test(every_command_has_help),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
