/* worker/bench.c - options of the measuring modes, and the words about the machine that head each table. */
#include "worker/bench.h"

#include <getopt.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"

enum { EXIT_MEASURED = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

#define CPUINFO_BYTES_MAX (4u << 20)

static const char usage[] =
    "Usage: phalanx bench machine [--threads N] [--read-only] [--json]\n"
    "       phalanx bench kernels [--backend B] [--threads N] [--json] [--level L] [--shape S] [--format F]\n"
    "                             [--case-ms MS]\n"
    "       phalanx bench rank --preset P --tp T --rank R [--layers LIST] [--batch N] [--depth N] [--steps "
    "N]\n"
    "                          [--backend B] [--threads N] [--format F] [--latency-ns N] [--link-gbs N]\n"
    "       (phalanx-worker --bench MODE is the same)\n"
    "\n"
    "machine   the rate of each multiply unit and the bandwidth of reading memory, for 1 to N threads;\n"
    "          with --read-only that of memory alone, for N threads\n"
    "kernels   time of each op and the fraction of this machine's limit that it reaches\n"
    "rank      decode steps of one rank of a full-size model with random weights, collectives modelled,\n"
    "          beside the floor that its bytes set\n"
    "\n"
    "B   cpu (default), cuda, emu: what computes; emu only tries every row, its times mean nothing\n"
    "N   the number of cores that this process may use, unless given\n"
    "L   ref, avx2, avx512: at most what the machine has, which is the default\n"
    "S   ds-3b (default), ds32-3b, deepseek-v3.2-tp8, small and tiny (to try it out)\n"
    "F   of the weights. kernels: fp8 (default), bf16, f16, f32; rank: those of phalanx synth [the "
    "preset's]\n"
    "MS  time for each op with each shape, about [120]\n"
    "\n"
    "--preset   a name of phalanx synth, or tiny\n"
    "--layers   0,3: only these layers are resident; the step of all is reckoned from them, kind by kind\n"
    "--batch    sequences that decode together [1]; --depth: tokens that each has before; --steps [30]\n"
    "           the depth is 4096 unless given, or what the model has positions for beside the steps\n"
    "--latency-ns, --link-gbs   a collective takes N ns [3900] and its bytes at N GB/s [180]\n"
    "\nExit codes\n  0 measured\n  1 could not measure\n  2 wrong usage\n";

typedef phx_code bench_mode(const phx_bench_options *options, phx_error *err);

static bool parse_options(int argc, char **argv, bool of_rank, phx_bench_options *ret_options);
static uint32_t count_cores(void);

int phx_bench_main(int argc, char **argv)
{
    static const struct {
        const char *name;
        bench_mode *run;
    } modes[] = {
        {"machine", phx_bench_machine},
        {"kernels", phx_bench_kernels},
#if !defined(PHX_ONLY_KERNELS) /* a build without the executor */
        {"rank", phx_bench_rank},
#endif
    };
    bench_mode *run = NULL;
    for (size_t i = 0; argc > 1 && i < sizeof(modes) / sizeof(modes[0]); i++)
        run = strcmp(argv[1], modes[i].name) == 0 ? modes[i].run : run;
    phx_bench_options options = {.backend = "cpu",
                                 .n_threads = count_cores(),
                                 .level = phx_level_of_machine(),
                                 .format = PHX_FORMAT_FP8_BLOCK,
                                 .shape = "ds-3b",
                                 .case_ms = 120,
                                 .out = stdout,
                                 .rank = {.preset = "deepseek-v3.2",
                                          .tp = 8,
                                          .n_batch = 1,
                                          .n_steps = 30,
                                          .latency_ns = 3900,
                                          .link_gbs = 180}};
    phx_error err = {0};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            (void)fputs(usage, stdout);
            return EXIT_MEASURED;
        }
    }
    if (!run || !parse_options(argc - 1, argv + 1, strcmp(argv[1], "rank") == 0, &options)) {
        (void)fputs(usage, stderr);
        return EXIT_USAGE;
    }
    if (run(&options, &err) == PHX_OK)
        return EXIT_MEASURED;
    (void)fprintf(stderr, "phalanx-worker: %s (%s)\n", err.text, err.place);
    return err.code == PHX_ERR_INVALID ? EXIT_USAGE : EXIT_FAILED;
}

/* The options that are a number, and the greatest that each may be. */
typedef struct number_option {
    const char *name;
    uint32_t min;
    uint32_t max;
    size_t at; /* in phx_bench_options */
} number_option;

#define AT(field) offsetof(phx_bench_options, field)
static const number_option numbers[] = {
    {"threads", 1, PHX_THREADS_MAX, AT(n_threads)},
    {"case-ms", 1, 60000, AT(case_ms)},
    {"tp", 1, 8, AT(rank.tp)},
    {"rank", 0, 7, AT(rank.rank)},
    {"batch", 1, PHX_BENCH_BATCH_MAX, AT(rank.n_batch)},
    {"depth", 1, 1u << 20, AT(rank.depth)},
    {"steps", 1, PHX_BENCH_STEPS_MAX, AT(rank.n_steps)},
    {"latency-ns", 0, 1000000000, AT(rank.latency_ns)},
    {"link-gbs", 1, 1000000, AT(rank.link_gbs)},
};
#undef AT
enum { N_NUMBERS = sizeof(numbers) / sizeof(numbers[0]) };

static bool take_number(const number_option *option, const char *text, phx_bench_options *ret_options)
{
    uint64_t value;
    if (!phx_str_to_u64(phx_str_of(text), option->min, option->max, &value)) {
        (void)fprintf(stderr, "phalanx-worker: --%s takes a number from %u to %u, not '%s'\n", option->name,
                      option->min, option->max, text);
        return false;
    }
    const uint32_t number = (uint32_t)value;
    memcpy((uint8_t *)ret_options + option->at, &number, sizeof(number));
    return true;
}

static bool take_word(int option, const char *text, bool of_rank, phx_bench_options *ret_options)
{
    switch (option) {
    case 'j':
        ret_options->json = true;
        return true;
    case 'r':
        ret_options->read_only = true;
        return true;
    case 's':
        ret_options->shape = text;
        return true;
    case 'p':
        ret_options->rank.preset = text;
        return true;
    case 'y':
        ret_options->rank.layers = text;
        return true;
    case 'l':
        if (phx_level_parse(phx_str_of(text), &ret_options->level) &&
            ret_options->level <= phx_level_of_machine())
            return true;
        (void)fprintf(stderr, "phalanx-worker: --level '%s': this machine has levels up to %s\n", text,
                      phx_level_name(phx_level_of_machine()));
        return false;
    case 'b':
        ret_options->backend = text;
        if (strcmp(text, "cpu") == 0 || strcmp(text, "cuda") == 0 || strcmp(text, "emu") == 0)
            return true;
        (void)fprintf(stderr, "phalanx-worker: --backend takes cpu, cuda or emu, not '%s'\n", text);
        return false;
    case 'f':
        ret_options->rank.format = text;
        if (of_rank || phx_format_parse(phx_str_of(text), &ret_options->format))
            return true;
        (void)fprintf(stderr, "phalanx-worker: --format '%s': use fp8, bf16, f16 or f32\n", text);
        return false;
    default:
        return false;
    }
}

static bool parse_options(int argc, char **argv, bool of_rank, phx_bench_options *ret_options)
{
    static const struct option words[] = {
        {"json", no_argument, NULL, 'j'},         {"read-only", no_argument, NULL, 'r'},
        {"level", required_argument, NULL, 'l'},  {"shape", required_argument, NULL, 's'},
        {"format", required_argument, NULL, 'f'}, {"backend", required_argument, NULL, 'b'},
        {"preset", required_argument, NULL, 'p'}, {"layers", required_argument, NULL, 'y'},
    };
    enum { N_WORDS = sizeof(words) / sizeof(words[0]), FIRST_NUMBER = 256 };
    struct option all[N_WORDS + N_NUMBERS + 1] = {{0}};
    memcpy(all, words, sizeof(words));
    for (int i = 0; i < N_NUMBERS; i++)
        all[N_WORDS + i] = (struct option){numbers[i].name, required_argument, NULL, FIRST_NUMBER + i};
    for (int option; (option = getopt_long(argc, argv, "", all, NULL)) != -1;) {
        const bool taken = option >= FIRST_NUMBER
                               ? take_number(&numbers[option - FIRST_NUMBER], optarg, ret_options)
                               : take_word(option, optarg, of_rank, ret_options);
        if (!taken)
            return false;
    }
    return optind == argc;
}

phx_code phx_bench_open_backend(const phx_bench_options *options, phx_pool **ret_pool,
                                phx_backend **ret_backend, phx_error *err)
{
    /* Timing a kernel is how one finds out about it, so also unproven ones. */
    const phx_device_request request = {.name = options->backend, .allow_unproven = true};
    const phx_code rc = phx_pool_create(options->n_threads, NULL, ret_pool, err);
    if (rc != PHX_OK)
        return rc;
    if (strcmp(options->backend, "cpu") == 0)
        return phx_backend_cpu_create(*ret_pool, options->level, ret_backend, err);
    return phx_backend_open(&request, ret_backend, err);
}

/* Cores that this process may use, within what a pool can hold. */
static uint32_t count_cores(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    const int n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
    return n < 1 ? 1u : n > (int)PHX_THREADS_MAX ? PHX_THREADS_MAX : (uint32_t)n;
}

/* The text after "model name : " of the first processor. */
static void find_chip(char *chip, size_t n_bytes)
{
    static const char key[] = "model name";
    phx_buf text;
    phx_buf_init(&text, CPUINFO_BYTES_MAX);
    (void)snprintf(chip, n_bytes, "unknown");
    const char *at =
        phx_file_read("/proc/cpuinfo", &text, NULL) == PHX_OK && text.ptr ? strstr(text.ptr, key) : NULL;
    at = at ? strchr(at, ':') : NULL;
    if (at) {
        at += strspn(at, ": \t");
        (void)snprintf(chip, n_bytes, "%.*s", (int)strcspn(at, "\n"), at);
    }
    phx_buf_done(&text);
}

void phx_bench_machine_describe(phx_bench_machine_info *ret_info)
{
    phx_bench_machine_info info = {.n_cores = count_cores()};
    const time_t now = time(NULL);
    struct tm utc;
    if (gmtime_r(&now, &utc))
        (void)strftime(info.date, sizeof(info.date), "%Y-%m-%d", &utc);
    find_chip(info.chip, sizeof(info.chip));
    const long pages = sysconf(_SC_PHYS_PAGES);
    const long page_bytes = sysconf(_SC_PAGESIZE);
    const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    info.memory_bytes = pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : 0;
    info.cache_bytes = cache > 0 ? (uint64_t)cache : 0;
    *ret_info = info;
}

void phx_bench_machine_write(phx_json_writer *w, const phx_bench_machine_info *info)
{
    phx_json_key(w, "chip");
    phx_json_text(w, info->chip);
    phx_json_key(w, "date");
    phx_json_text(w, info->date);
    phx_json_key(w, "n_cores");
    phx_json_u64(w, info->n_cores);
    phx_json_key(w, "memory_bytes");
    phx_json_u64(w, info->memory_bytes);
    phx_json_key(w, "last_cache_bytes");
    phx_json_u64(w, info->cache_bytes);
    phx_json_key(w, "level");
    phx_json_text(w, phx_level_name(phx_level_of_machine()));
}

phx_code phx_bench_buffer_init(phx_bench_buffer *buffer, size_t n_bytes, phx_error *err)
{
    void *data = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "a buffer of %zu MiB to read from: free that much memory",
                        n_bytes >> 20);
    (void)madvise(data, n_bytes, MADV_HUGEPAGE); /* as weights are held */
    memset(data, 1, n_bytes);
    *buffer = (phx_bench_buffer){data, n_bytes};
    return PHX_OK;
}

void phx_bench_buffer_done(phx_bench_buffer *buffer)
{
    if (buffer->data)
        (void)munmap(buffer->data, buffer->n_bytes);
    *buffer = (phx_bench_buffer){0};
}
