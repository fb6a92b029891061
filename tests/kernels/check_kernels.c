/* tests/kernels/check_kernels.c - the kernel checker: every op of every level that this machine can run, and
 * of every level in C form, against the reference, element by element (STYLE habits 25-27, 36).
 * Usage: check_kernels [--seed N] [--level ref|avx2|avx512|emu] [--op NAME] [--bench] [--threads N]
 *        check_kernels --backend cuda|emu [--plugins DIR] [--brief] [--separate] [--seed N] [--op NAME]
 * Program check_planted: [--plant N] switches on a fault in the kernels (tests/emu/test_planted.sh), and the
 * first failure ends it. Level emu: the CUDA kernels on the emulator (tests/emu) and nothing else.
 * --backend: the plugin that the worker opens, with its kernels and its copies, on a device
 * (launch/gpu-check). Exit status 0: every element within the limit that kernels/ops.h states, every promise
 * of equal bits kept.
 */
#include "tests/kernels/check.h"

#include <string.h>

#if __has_include("kernels/ops_cform.list")
#define PHX_OP(op, level, fn) phx_##op##_fn fn;
#include "kernels/ops_cform.list"
#undef PHX_OP
#endif
#if defined(PHX_EMU)
#define PHX_OP(op, level, fn) phx_##op##_fn fn;
#include "kernels/ops_emu.list"
#undef PHX_OP
phx_code phx_emu_choose_products(const phx_product_choice *choice, phx_error *err);

static phx_code emu_choose(phx_pool *queue, const phx_product_choice *choice, phx_error *err)
{
    (void)queue;
    return phx_emu_choose_products(choice, err);
}
#endif

#if defined(PHX_PLANTS)
int phx_plant; /* the fault that kernels/cuda/launch.cuh asks for */
#endif

typedef struct options {
    uint64_t seed;
    uint64_t n_threads; /* of the bench */
    phx_level level;
    const char *op;
    bool bench;
    bool emu; /* the emulator in place of the levels */
    bool brief;
    check_device_options device; /* backend NULL: the levels of this machine */
} options;

static bool options_parse(int argc, char **argv, options *opt);
static int variants_collect(phx_level level, check_variant *variants);
static int emu_collect(check_variant *variant);
static int check_backend(const options *opt);
static uint64_t check_all(const options *opt, const check_variant *variants, int n_variants,
                          check_device *device);
static phx_code pools_create(phx_pool **pools, phx_error *err);

int main(int argc, char **argv)
{
    options opt = {.seed = 20250921, .n_threads = 1, .level = phx_level_of_machine()};
    if (!options_parse(argc, argv, &opt)) {
        fprintf(
            stderr,
            "usage: check_kernels [--seed N] [--level NAME] [--op NAME] [--bench] [--threads N]\n"
            "       check_kernels --backend cuda|emu [--plugins DIR] [--brief] [--separate] [--op NAME]\n");
        return 2;
    }
    if (opt.device.backend)
        return check_backend(&opt);
    check_variant variants[CHECK_VARIANTS_MAX];
    const int n_variants = opt.emu ? emu_collect(variants) : variants_collect(opt.level, variants);
    printf("check_kernels: seed %llu, level %s of %s\n", (unsigned long long)opt.seed,
           opt.emu ? "emu" : phx_level_name(opt.level), phx_level_name(phx_level_of_machine()));
    if (n_variants == 0) {
        fprintf(stderr, "check_kernels: built without the CUDA emulator's level: try --backend emu\n");
        return 1;
    }
    if (!opt.bench)
        return check_all(&opt, variants, n_variants, NULL) == 0 ? 0 : 1;
    phx_error err = {0};
    phx_pool *pool = NULL;
    if (phx_pool_create((uint32_t)opt.n_threads, NULL, &pool, &err) != PHX_OK) {
        fprintf(stderr, "check_kernels: %s\n", err.text);
        return 1;
    }
    check_bench(variants, n_variants, pool, opt.seed);
    phx_pool_destroy(pool);
    return 0;
}

static bool is_op(const char *name)
{
#define X(op_name)                   \
    if (strcmp(name, #op_name) == 0) \
        return true;
    PHX_OPS(X)
#undef X
    return false;
}

static bool options_parse(int argc, char **argv, options *opt)
{
    for (int i = 1; i < argc; i++) {
        const bool more = i + 1 < argc;
        if (strcmp(argv[i], "--bench") == 0) {
            opt->bench = true;
        } else if (more && strcmp(argv[i], "--seed") == 0) {
            if (!phx_str_to_u64(phx_str_of(argv[++i]), 0, UINT64_MAX, &opt->seed))
                return false;
        } else if (more && strcmp(argv[i], "--threads") == 0) {
            if (!phx_str_to_u64(phx_str_of(argv[++i]), 1, PHX_THREADS_MAX, &opt->n_threads))
                return false;
#if defined(PHX_PLANTS)
        } else if (more && strcmp(argv[i], "--plant") == 0) {
            uint64_t plant = 0;
            if (!phx_str_to_u64(phx_str_of(argv[++i]), 0, INT32_MAX, &plant))
                return false;
            phx_plant = (int)plant;
#endif
        } else if (strcmp(argv[i], "--brief") == 0) {
            opt->brief = true;
        } else if (strcmp(argv[i], "--separate") == 0) {
            opt->device.separate = true;
        } else if (more && strcmp(argv[i], "--backend") == 0) {
            opt->device.backend = argv[++i];
        } else if (more && strcmp(argv[i], "--plugins") == 0) {
            opt->device.dir = argv[++i];
        } else if (more && strcmp(argv[i], "--op") == 0) {
            opt->op = argv[++i];
            if (!is_op(opt->op)) {
                fprintf(stderr, "check_kernels: no op is called '%s'\n", opt->op);
                return false;
            }
        } else if (more && strcmp(argv[i], "--level") == 0 && strcmp(argv[i + 1], "emu") == 0) {
            opt->emu = true;
            i++;
        } else if (more && strcmp(argv[i], "--level") == 0) {
            phx_level level;
            if (!phx_level_parse(phx_str_of(argv[++i]), &level) || level > phx_level_of_machine())
                return false;
            opt->level = level;
        } else {
            return false;
        }
    }
    return true;
}

static const char *cform_name(phx_level level)
{
    return level == PHX_LEVEL_AVX512 ? "avx512 in C" : level == PHX_LEVEL_AVX2 ? "avx2 in C" : "ref";
}

/* The C form of a level, if any op is registered for it. */
static bool cform_collect(phx_level level, check_variant *variant)
{
    *variant = (check_variant){.name = cform_name(level)};
    phx_ops_choose(PHX_LEVEL_REF, &variant->ops);
    bool any = false;
#define PHX_OP(op_name, op_level, fn)         \
    if (PHX_LEVEL_##op_level == level) {      \
        variant->ops.op_name = fn;            \
        variant->ops.op_name##_level = level; \
        variant->has_##op_name = true;        \
        any = true;                           \
    }
#if __has_include("kernels/ops_cform.list")
#include "kernels/ops_cform.list"
#endif
#undef PHX_OP
    return any;
}

static int variants_collect(phx_level level, check_variant *variants)
{
    int n = 0;
    for (unsigned i = 0; i <= (unsigned)level; i++) {
        check_variant *v = &variants[n];
        *v = (check_variant){.name = phx_level_name((phx_level)i)};
        phx_ops_choose((phx_level)i, &v->ops);
        bool any = false;
#define X(op)                                        \
    v->has_##op = v->ops.op##_level == (phx_level)i; \
    any = any || v->has_##op;
        PHX_OPS(X)
#undef X
        n += any ? 1 : 0;
    }
    for (unsigned i = 1; i < PHX_LEVEL_COUNT; i++)
        n += cform_collect((phx_level)i, &variants[n]) ? 1 : 0;
    return n;
}

/* The CUDA kernels on the emulator; 0 when it was not built. */
static int emu_collect(check_variant *variant)
{
    *variant = (check_variant){.name = "emu", .brief = true};
    phx_ops_choose(PHX_LEVEL_REF, &variant->ops);
#if defined(PHX_EMU)
#define PHX_OP(op_name, op_level, fn) \
    variant->ops.op_name = fn;        \
    variant->has_##op_name = true;
#include "kernels/ops_emu.list"
#undef PHX_OP
    variant->choose = emu_choose;
    return 1;
#else
    return 0;
#endif
}

static phx_code pools_create(phx_pool **pools, phx_error *err)
{
    for (uint32_t i = 0; i < CHECK_POOLS; i++) {
        const phx_code rc = phx_pool_create(i + 1, NULL, &pools[i], err);
        if (rc != PHX_OK)
            return rc;
    }
    return PHX_OK;
}

/* A device is the only variant. Exit code 3: it cannot be had. */
static int check_backend(const options *opt)
{
    check_variant variant = {0};
    check_device *device = NULL;
    phx_error err = {0};
    if (check_device_create(&opt->device, &variant, &device, &err) != PHX_OK) {
        fprintf(stderr, "check_kernels: %s\n", err.text);
        return 3;
    }
    variant.brief = variant.brief || opt->brief;
    const int code = check_all(opt, &variant, 1, device) == 0 ? 0 : 1;
    check_device_destroy(device);
    return code;
}

/* Runs one op of one variant and prints its line. */
static uint64_t check_one(check *c, const char *op, const check_variant *variant, void (*run)(check *c))
{
    c->op = op;
    c->variant = variant->name;
    c->brief = variant->brief;
    c->is_ref = strcmp(variant->name, "ref") == 0;
    c->ops = &variant->ops;
    c->of = variant;
    c->n_cases = 0;
    c->n_failed = 0;
    c->worst = 0.0;
    c->worst_at[0] = '\0';
    run(c);
    printf("%-18s %-11s %5llu cases  ", op, variant->name, (unsigned long long)c->n_cases);
    if (c->n_failed > 0)
        printf("%llu FAILED, ", (unsigned long long)c->n_failed);
    if (c->worst > 0.0)
        printf("worst %.3f of its limit: %s\n", c->worst, c->worst_at);
    else
        printf("equal\n");
    fflush(stdout);
    return c->n_failed;
}

static uint64_t check_all(const options *opt, const check_variant *variants, int n_variants,
                          check_device *device)
{
    phx_pool *pools[CHECK_POOLS] = {0};
    phx_ops ref;
    phx_ops_choose(PHX_LEVEL_REF, &ref);
    check c = {.seed = opt->seed, .ref = &ref, .device = device};
    phx_error err = {0};
    uint64_t n_failed = 0;
    if (pools_create(pools, &err) != PHX_OK) {
        fprintf(stderr, "check_kernels: %s\n", err.text);
        n_failed = 1;
        goto out;
    }
    c.ref_pool = pools[0];
    for (uint32_t i = 0; i < CHECK_POOLS; i++)
        c.pools[i] = variants[0].queue ? variants[0].queue : pools[i];
#define X(op_name)                                                                     \
    for (int i = 0; i < n_variants; i++) {                                             \
        if (variants[i].has_##op_name && (!opt->op || strcmp(opt->op, #op_name) == 0)) \
            n_failed += check_one(&c, #op_name, &variants[i], check_##op_name);        \
    }
    PHX_OPS(X)
#undef X
    printf("%s\n", n_failed == 0 ? "all within their limits" : "FAILED");
out:
    for (uint32_t i = 0; i < CHECK_POOLS; i++)
        phx_pool_destroy(pools[i]);
    return n_failed;
}
