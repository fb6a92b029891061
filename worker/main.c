/* worker/main.c - phalanx-worker: one rank of a group. Started by mpirun, srun, or directly for a group of
 * one. */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#ifdef PHX_WITH_MPI
#include <mpi.h>
#endif

#include "base/descriptors.h"
#include "base/log.h"
#include "proto/codec.h"
#include "worker/bench.h"
#include "worker/rank.h"

/* Exit codes, also in --help. */
enum { EXIT_FINE = 0, EXIT_USAGE = 2, EXIT_RANK_FAILED = 3, EXIT_GROUP_FAILED = 4 };

static const char usage[] =
    "usage: phalanx-worker --coordinator ADDR [--key-file FILE] [--epoch N] [--rank N --ranks N] "
    "[--backend auto|cpu|cuda|emu] [--allow-unproven]\n"
    "       phalanx-worker --bench machine|kernels [--threads N] [--json] ...\n"
    "\n"
    "One rank of a group. `phalanx serve` starts workers by itself; with `serve --no-launch` start them "
    "yourself:\n"
    "  mpirun -n 4 phalanx-worker --coordinator tcp://HOST:PORT --key-file FILE\n"
    "The rank's number comes from mpirun or srun, or from --rank and --ranks.\n"
    "--backend: what computes; auto (not given) takes a GPU where there is one. --allow-unproven: also "
    "kernels\n"
    "that have never run on a chip of its architecture.\n"
    "\n"
    "exit codes: 0 told to stop, 2 wrong usage, 3 this rank failed, 4 the group failed\n";

static bool parse_options(int argc, char **argv, phx_rank_options *ret_options);
static void rank_from_launcher(phx_rank_options *options);
static phx_code run(const phx_rank_options *options, phx_error *err);
static phx_code enter_mpi(phx_error *err);
static void leave_mpi(void);
static void choose_for_nccl(phx_rank_options *options);

int main(int argc, char **argv)
{
    char name[32];
    phx_error err = {0};
    phx_rank_options options = {
        .n_ranks = 1, .n_ranks_on_host = 1, .enter_mpi = enter_mpi, .backend = "auto"};
    if (argc > 1 && strcmp(argv[1], "--bench") == 0)
        return phx_bench_main(argc - 1, argv + 1);
    rank_from_launcher(&options);
    if (!parse_options(argc, argv, &options))
        return EXIT_USAGE;
    (void)snprintf(name, sizeof(name), "rank %u", options.rank);
    phx_log_init(name, PHX_LOG_INFO);
    choose_for_nccl(&options);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGINT, SIG_IGN); /* Ctrl-C belongs to the coordinator, which ends its ranks in order */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    phx_code rc = phx_descriptors_raise(&err);
    if (rc == PHX_OK)
        rc = run(&options, &err);
    if (rc == PHX_OK) {
        leave_mpi(); /* after a failure the process just ends: MPI would wait for ranks that are gone */
        return EXIT_FINE;
    }
    phx_log_error("rank failed", &err);
    return phx_code_scope(rc) == PHX_SCOPE_GROUP ? EXIT_GROUP_FAILED : EXIT_RANK_FAILED;
}

/* NCCL reads its environment when it is opened, and listens without authentication: on one host on loopback
 * alone, and never for its diagnosis. Its sums inside an NVSwitch are off: their buffers, up to 1.5 GB of
 * each device, come after the plan has shared the memory out, and an order of sums that is ours cannot use
 * them. What somebody has set stays. Who switches peer access off means our own use of it too. */
static void choose_for_nccl(phx_rank_options *options)
{
    const char *no_peers = getenv("NCCL_P2P_DISABLE");
    if (options->n_ranks_on_host == options->n_ranks)
        (void)setenv("NCCL_SOCKET_IFNAME", "lo", 0);
    (void)setenv("NCCL_RAS_ENABLE", "0", 0);
    (void)setenv("NCCL_NVLS_ENABLE", "0", 0);
    options->no_peers = no_peers && strcmp(no_peers, "1") == 0;
}

static uint32_t number_of(const char *const *names, uint32_t fallback)
{
    for (size_t i = 0; names[i]; i++) {
        const char *text = getenv(names[i]);
        uint64_t value;
        if (text && phx_str_to_u64(phx_str_of(text), 0, PHX_RANKS_MAX, &value))
            return (uint32_t)value;
    }
    return fallback;
}

/* mpirun and srun tell the numbers in the environment; MPI itself is entered only when ranks span hosts. */
static void rank_from_launcher(phx_rank_options *options)
{
    static const char *const rank[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID", NULL};
    static const char *const size[] = {"OMPI_COMM_WORLD_SIZE", "SLURM_NTASKS", NULL};
    static const char *const local_size[] = {"OMPI_COMM_WORLD_LOCAL_SIZE", "SLURM_NTASKS_PER_NODE", NULL};
    static const char *const local_rank[] = {"OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID", NULL};
    options->n_ranks = number_of(size, 1);
    options->rank = number_of(rank, 0);
    options->n_ranks_on_host = number_of(local_size, options->n_ranks);
    options->host_rank = number_of(local_rank, options->rank);
}

static bool number_option(const char *name, const char *text, uint64_t max, uint64_t *ret_value)
{
    if (phx_str_to_u64(phx_str_of(text), 0, max, ret_value))
        return true;
    (void)fprintf(stderr, "phalanx-worker: --%s takes a number from 0 to %llu, not '%s'\n", name,
                  (unsigned long long)max, text);
    return false;
}

static bool is_backend(const char *name)
{
    static const char *const names[] = {"auto", "cpu", "cuda", "emu"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(names[i], name) == 0)
            return true;
    }
    (void)fprintf(stderr, "phalanx-worker: --backend takes auto, cpu, cuda or emu, not '%s'\n", name);
    return false;
}

static bool parse_options(int argc, char **argv, phx_rank_options *ret_options)
{
    static const struct option long_options[] = {
        {"coordinator", required_argument, NULL, 'c'}, {"key-file", required_argument, NULL, 'k'},
        {"epoch", required_argument, NULL, 'e'},       {"rank", required_argument, NULL, 'r'},
        {"ranks", required_argument, NULL, 'n'},       {"backend", required_argument, NULL, 'b'},
        {"allow-unproven", no_argument, NULL, 'u'},    {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},           {NULL, 0, NULL, 0},
    };
    uint64_t value = 0;
    for (int option; (option = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
        switch (option) {
        case 'c':
            ret_options->coordinator = optarg;
            break;
        case 'k':
            ret_options->key_file = optarg;
            break;
        case 'e':
            if (!number_option("epoch", optarg, UINT64_MAX, &value))
                return false;
            ret_options->epoch = value;
            break;
        case 'r':
        case 'n':
            if (!number_option(option == 'r' ? "rank" : "ranks", optarg, PHX_RANKS_MAX, &value))
                return false;
            *(option == 'r' ? &ret_options->rank : &ret_options->n_ranks) = (uint32_t)value;
            break;
        case 'b':
            if (!is_backend(optarg))
                return false;
            ret_options->backend = optarg;
            break;
        case 'u':
            ret_options->allow_unproven = true;
            break;
        case 'h':
            (void)fputs(usage, stdout);
            exit(EXIT_FINE);
        case 'v':
            (void)printf("phalanx-worker %s\n", phx_build_id());
            exit(EXIT_FINE);
        default:
            (void)fputs(usage, stderr);
            return false;
        }
    }
    if (optind < argc || !ret_options->coordinator || ret_options->rank >= ret_options->n_ranks) {
        (void)fputs(usage, stderr);
        return false;
    }
    return true;
}

static phx_code run(const phx_rank_options *options, phx_error *err)
{
    phx_code rc = PHX_OK;
    pthread_t control;
    bool started = false;
    phx_rank_engine *engine = NULL;
    phx_rank rank = {.options = *options};
    rc = phx_mailbox_create(64, 16u << 20, &rank.inbox, err);
    if (rc == PHX_OK)
        rc = phx_mailbox_create(64, 16u << 20, &rank.outbox, err);
    if (rc != PHX_OK)
        goto out;
    phx_rank_open_device(&rank);
    started = pthread_create(&control, NULL, phx_rank_control, &rank) == 0;
    if (!started) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "cannot start the control thread");
        goto out;
    }
    rc = phx_rank_serve(&rank, &engine, err);
    phx_mailbox_close(rank.outbox); /* the control thread sends what is left, then ends */
    (void)pthread_join(control, NULL);
    if (rank.control_error.code != PHX_OK) { /* the first cause, when it made the compute thread stop */
        rc = rank.control_error.code;
        *err = rank.control_error;
    }
out:
    phx_rank_engine_destroy(engine);
    phx_backend_destroy(rank.device);
    phx_mailbox_destroy(rank.inbox);
    phx_mailbox_destroy(rank.outbox);
    return rc;
}

#ifdef PHX_WITH_MPI
static phx_code enter_mpi(phx_error *err)
{
    int provided = 0;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS ||
        provided < MPI_THREAD_FUNNELED)
        return PHX_FAIL(err, PHX_ERR_COMM,
                        "MPI cannot be entered: start ranks of several hosts with mpirun or srun");
    return PHX_OK;
}

static void leave_mpi(void)
{
    int entered = 0;
    if (MPI_Initialized(&entered) == MPI_SUCCESS && entered)
        (void)MPI_Finalize();
}
#else
static phx_code enter_mpi(phx_error *err)
{
    return PHX_FAIL(err, PHX_ERR_UNSUPPORTED,
                    "ranks span hosts, and this build has no MPI: configure with -DPHX_MPI=ON");
}

static void leave_mpi(void)
{
}
#endif
