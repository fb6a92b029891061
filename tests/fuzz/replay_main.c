/* tests/fuzz/replay_main.c - runs a fuzz target without a fuzzer: its corpus, then mutations of it.
 * Owns: the command line, the corpus on disk, the watch over time, leaks, and the file that keeps the input
 * of a failure. Reproduce one with: PROGRAM FILE. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/mutate.h"

#define FILE_BYTES_MAX (16u << 20)
#define INPUT_SECONDS  25 /* longer for one input is a failure */

typedef struct arguments {
    uint64_t n_mutations;
    uint64_t n_seconds; /* instead, when not 0 */
    uint64_t seed;
    const char *dictionary;
    int first_path; /* of argv */
} arguments;

/* What the signal handler needs: the only state outside of main. */
typedef struct current_input {
    const uint8_t *volatile ptr;
    volatile size_t n;
    volatile uint64_t n_runs;
    volatile uint64_t n_runs_seen; /* by the watch */
    char path[512];
} current_input;
static current_input now;

static bool parse_arguments(int argc, char **argv, arguments *args);
static void load_path(fuzz_set *seeds, const char *path);
static void watch(void);
static void run_input(phx_bytes input);
static uint64_t run_mutations(const fuzz_source *source, const arguments *args);

int main(int argc, char **argv)
{
    arguments args = {.seed = 1};
    fuzz_source source = {0};
    phx_error err = {0};
    phx_buf text;
    if (!parse_arguments(argc, argv, &args)) {
        (void)fprintf(stderr,
                      "usage: %s [--mutations N | --seconds N] [--seed S] [--dict FILE] FILE|FOLDER...\n",
                      argv[0]);
        return 2;
    }
    (void)snprintf(now.path, sizeof(now.path), "failed-%s",
                   strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0]);
    phx_buf_init(&text, FILE_BYTES_MAX);
    if (args.dictionary) {
        fuzz_must(phx_file_read(args.dictionary, &text, &err), &err);
        fuzz_must(fuzz_read_dictionary(&source.words, phx_buf_view(&text), &err), &err);
    }
    phx_buf_done(&text);
    for (int i = args.first_path; i < argc; i++)
        load_path(&source.seeds, argv[i]);
    source.seed = args.seed;
    source.n_bytes_max = 64u << 10;

    watch();
    (void)LLVMFuzzerTestOneInput((const uint8_t *)"", 0); /* makes what the target keeps */
    for (size_t i = 0; i < source.seeds.n_items; i++)
        run_input((phx_bytes){source.seeds.items[i].ptr, source.seeds.items[i].n});
    const uint64_t n_mutations = run_mutations(&source, &args);
    (void)printf("%zu corpus inputs, %llu mutations of seed %llu, %zu words: ok\n", source.seeds.n_items,
                 (unsigned long long)n_mutations, (unsigned long long)args.seed, source.words.n_items);
    fuzz_set_done(&source.seeds);
    fuzz_set_done(&source.words);
    return 0;
}

static bool parse_arguments(int argc, char **argv, arguments *args)
{
    int i = 1;
    for (; i + 1 < argc && argv[i][0] == '-'; i += 2) {
        const phx_str value = phx_str_of(argv[i + 1]);
        if (strcmp(argv[i], "--dict") == 0)
            args->dictionary = argv[i + 1];
        else if (!(strcmp(argv[i], "--mutations") == 0 &&
                   phx_str_to_u64(value, 0, UINT64_MAX, &args->n_mutations)) &&
                 !(strcmp(argv[i], "--seconds") == 0 && phx_str_to_u64(value, 1, 86400, &args->n_seconds)) &&
                 !(strcmp(argv[i], "--seed") == 0 && phx_str_to_u64(value, 0, UINT64_MAX, &args->seed)))
            return false;
    }
    args->first_path = i;
    return i < argc && argv[i][0] != '-';
}

static void load_file(fuzz_set *seeds, const char *path)
{
    phx_buf text;
    phx_error err = {0};
    phx_buf_init(&text, FILE_BYTES_MAX);
    fuzz_must(phx_file_read(path, &text, &err), &err);
    fuzz_must(fuzz_set_add(seeds, (phx_bytes){(const uint8_t *)text.ptr, text.n}), &err);
    phx_buf_done(&text);
}

static int by_name(const void *a, const void *b)
{
    const fuzz_item *x = a;
    const fuzz_item *y = b;
    return strcmp((const char *)x->ptr, (const char *)y->ptr);
}

/* Names sorted, so that the numbers of mutations mean the same on every file system. */
static void load_folder(fuzz_set *seeds, const char *path)
{
    fuzz_set names = {0};
    DIR *dir = opendir(path);
    FUZZ_CHECK(dir != NULL);
    for (struct dirent *entry; (entry = readdir(dir));) {
        char name[4096];
        const int n = snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        if (entry->d_name[0] != '.')
            FUZZ_CHECK(fuzz_set_add(&names, (phx_bytes){(const uint8_t *)name, (size_t)n}) == PHX_OK);
    }
    (void)closedir(dir);
    if (names.n_items > 0)
        qsort(names.items, names.n_items, sizeof(names.items[0]), by_name);
    for (size_t i = 0; i < names.n_items; i++)
        load_file(seeds, (const char *)names.items[i].ptr);
    fuzz_set_done(&names);
}

static void load_path(fuzz_set *seeds, const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        (void)fprintf(stderr, "fuzz: cannot read '%s': %s\n", path, strerror(errno));
        exit(2);
    }
    if (S_ISDIR(st.st_mode))
        load_folder(seeds, path);
    else
        load_file(seeds, path);
}

/* Only calls that are safe inside a handler. */
static void on_signal(int signal_no)
{
    static const char slow[] = "fuzz: one input takes too long\n";
    static const char kept[] = "fuzz: input kept in ";
    if (signal_no == SIGALRM && now.n_runs != now.n_runs_seen) {
        now.n_runs_seen = now.n_runs;
        return;
    }
    if (signal_no == SIGALRM)
        (void)!write(STDERR_FILENO, slow, sizeof(slow) - 1);
    const int fd = now.ptr ? open(now.path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644) : -1;
    if (fd >= 0) {
        (void)!write(fd, now.ptr, now.n);
        (void)close(fd);
        (void)!write(STDERR_FILENO, kept, sizeof(kept) - 1);
        (void)!write(STDERR_FILENO, now.path, strlen(now.path));
        (void)!write(STDERR_FILENO, "\n", 1);
    }
    (void)signal(SIGABRT, SIG_DFL);
    if (signal_no == SIGALRM)
        abort();
    (void)signal(signal_no, SIG_DFL);
    (void)raise(signal_no);
}

static void watch(void)
{
    static const int signals[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGALRM};
    const struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    const struct itimerval every = {{INPUT_SECONDS, 0}, {INPUT_SECONDS, 0}};
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        FUZZ_CHECK(sigaction(signals[i], &action, NULL) == 0);
    FUZZ_CHECK(setitimer(ITIMER_REAL, &every, NULL) == 0);
}

/* In memory of exactly its size, so that a sanitizer sees the first byte behind it. */
static void run_input(phx_bytes input)
{
    uint8_t *copy = phx_alloc(input.n, 1);
    FUZZ_CHECK(copy != NULL);
    if (input.n)
        memcpy(copy, input.ptr, input.n);
    now.ptr = copy;
    now.n = input.n;
    now.n_runs++;
    const uint64_t n_live = phx_alloc_count().n_live;
    (void)LLVMFuzzerTestOneInput(copy, input.n);
    FUZZ_CHECK(phx_alloc_count().n_live == n_live); /* nothing leaks */
    now.ptr = NULL;
    phx_free(copy);
}

static uint64_t run_mutations(const fuzz_source *source, const arguments *args)
{
    phx_buf input;
    uint64_t n = 0;
    const time_t end = time(NULL) + (time_t)args->n_seconds;
    phx_buf_init(&input, 2 * source->n_bytes_max);
    while (args->n_seconds ? time(NULL) < end : n < args->n_mutations) {
        fuzz_mutate(source, n++, &input);
        run_input((phx_bytes){(const uint8_t *)input.ptr, input.n});
    }
    phx_buf_done(&input);
    return n;
}
