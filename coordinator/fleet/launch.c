/* coordinator/fleet/launch.c - starting the processes of a group. */
#include "coordinator/fleet/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/str.h"

enum { WORDS_MAX = 128, WORD_BYTES = 1024, ENV_MAX = 512 };

extern char **environ;

typedef struct command {
    char words[WORDS_MAX][WORD_BYTES];
    char *argv[WORDS_MAX + 1];
    unsigned n;
    char settings[16][WORD_BYTES]; /* environment added for the launcher */
    char *envp[ENV_MAX + 1];
    char cannot[WORD_BYTES + 128]; /* what to say when it cannot be run */
} command;

static phx_code build(const phx_launch_spec *spec, command *c, phx_error *err);
static void set_environment(const phx_launch_spec *spec, command *c);
static void become_launcher(const command *c) __attribute__((noreturn));

phx_code phx_launch_start(const phx_launch_spec *spec, pid_t *ret_pid, phx_error *err)
{
    phx_code rc = PHX_OK;
    command *c = phx_alloc(1, sizeof(*c));
    if (!c)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "launch command");
    rc = build(spec, c, err);
    if (rc != PHX_OK)
        goto out;
    set_environment(spec, c);
    (void)snprintf(c->cannot, sizeof(c->cannot), "phalanx-coordinator: cannot run '%s'%s\n", c->argv[0],
                   spec->template_text ? ", the first word of --launch; is it in PATH?"
                                       : "; is openmpi-bin installed and in PATH?");
    const pid_t pid = fork();
    if (pid == 0)
        become_launcher(c);
    if (pid < 0) {
        rc = PHX_FAIL(err, PHX_ERR_IO, "cannot start '%s': %s", c->argv[0], strerror(errno));
        goto out;
    }
    *ret_pid = pid;
out:
    phx_free(c);
    return rc;
}

static phx_code add_word(command *c, const char *text, size_t n, phx_error *err)
{
    if (c->n == WORDS_MAX || !phx_str_copy(c->words[c->n], WORD_BYTES, (phx_str){text, n}))
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "launch template: more than %d words of %d bytes", WORDS_MAX,
                        WORD_BYTES);
    c->argv[c->n] = c->words[c->n];
    c->n++;
    return PHX_OK;
}

static phx_code add_worker(const phx_launch_spec *spec, command *c, phx_error *err)
{
    char epoch[24];
    (void)snprintf(epoch, sizeof(epoch), "%llu", (unsigned long long)spec->epoch);
    const char *const words[] = {spec->worker_path,
                                 "--coordinator",
                                 spec->address,
                                 "--epoch",
                                 epoch,
                                 "--backend",
                                 spec->backend,
                                 spec->allow_unproven ? "--allow-unproven" : NULL,
                                 spec->key_file ? "--key-file" : NULL,
                                 spec->key_file};
    phx_code rc = PHX_OK;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]) && rc == PHX_OK; i++)
        rc = words[i] ? add_word(c, words[i], strlen(words[i]), err) : PHX_OK;
    return rc;
}

/* Cuts the template at blanks; no shell is involved. */
static phx_code build(const phx_launch_spec *spec, command *c, phx_error *err)
{
    char n_ranks[16];
    phx_code rc = PHX_OK;
    const char *template_text = spec->template_text;
    if (!template_text && spec->n_ranks == 1 && !spec->hosts)
        return add_worker(spec, c, err);
    if (!template_text)
        template_text = spec->hosts ? PHX_LAUNCH_MPIRUN_HOSTS : PHX_LAUNCH_MPIRUN;
    (void)snprintf(n_ranks, sizeof(n_ranks), "%u", spec->n_ranks);
    for (const char *at = template_text; *at && rc == PHX_OK;) {
        const size_t n = strcspn(at, " \t\n");
        const phx_str word = {at, n};
        if (phx_str_is(word, "{n}"))
            rc = add_word(c, n_ranks, strlen(n_ranks), err);
        else if (phx_str_is(word, "{hosts}"))
            rc = add_word(c, spec->hosts ? spec->hosts : "localhost",
                          strlen(spec->hosts ? spec->hosts : "localhost"), err);
        else if (phx_str_is(word, "{worker}"))
            rc = add_worker(spec, c, err);
        else if (n)
            rc = add_word(c, at, n, err);
        at += n;
        at += strspn(at, " \t\n");
    }
    if (rc == PHX_OK && c->n == 0)
        rc = PHX_FAIL(err, PHX_ERR_INVALID, "launch template is empty");
    return rc;
}

/* What Open MPI 4.1 needs to start more ranks than cores, as root, on loopback, and to end them at once
 * (reference: stack.md 3, reliability.md 2.1). Variables that the person has set win. */
static void set_environment(const phx_launch_spec *spec, command *c)
{
    static const struct {
        const char *name;
        const char *value;
        bool local_only;
        bool root_only;
    } settings[] = {
        {"OMPI_MCA_rmaps_base_oversubscribe", "1", false, false},
        {"OMPI_MCA_hwloc_base_binding_policy", "none", false, false},
        {"OMPI_MCA_mpi_yield_when_idle", "1", false, false},
        {"OMPI_MCA_odls_base_sigkill_timeout", "0", false, false},
        {"OMPI_MCA_oob_tcp_if_include", "lo", true, false},
        {"OMPI_MCA_btl_tcp_if_include", "lo", true, false},
        {"OMPI_MCA_oob_tcp_keepalive_time", "2", false, false},
        {"OMPI_MCA_oob_tcp_keepalive_intvl", "1", false, false},
        {"OMPI_MCA_oob_tcp_keepalive_probes", "3", false, false},
        {"OMPI_ALLOW_RUN_AS_ROOT", "1", false, true},
        {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", false, true},
    };
    unsigned n = 0, n_set = 0;
    (void)snprintf(c->settings[n_set], WORD_BYTES, "TMPDIR=%s", spec->tmp_dir);
    c->envp[n++] = c->settings[n_set++];
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        bool given = (settings[i].local_only && spec->hosts) || (settings[i].root_only && geteuid() != 0);
        const size_t n_name = strlen(settings[i].name);
        for (char **e = environ; *e && !given; e++)
            given = strncmp(*e, settings[i].name, n_name) == 0 && (*e)[n_name] == '=';
        if (given)
            continue;
        (void)snprintf(c->settings[n_set], WORD_BYTES, "%s=%s", settings[i].name, settings[i].value);
        c->envp[n++] = c->settings[n_set++];
    }
    for (char **e = environ; *e && n < ENV_MAX; e++) {
        if (strncmp(*e, "TMPDIR=", 7) != 0)
            c->envp[n++] = *e;
    }
}

/* Between fork and exec: only calls that are safe there. */
static void become_launcher(const command *c)
{
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    (void)setpgid(0, 0);
    const int null = open("/dev/null", O_RDONLY);
    if (null >= 0)
        (void)dup2(null, STDIN_FILENO);
    (void)dup2(STDERR_FILENO, STDOUT_FILENO); /* stdout belongs to programs that read the coordinator */
    (void)execvpe(c->argv[0], c->argv, c->envp);
    const ssize_t ignored = write(STDERR_FILENO, c->cannot, strlen(c->cannot));
    (void)ignored;
    _exit(127);
}

void phx_launch_describe(int wait_status, char *text, unsigned n_bytes)
{
    if (WIFSIGNALED(wait_status))
        (void)snprintf(text, n_bytes, "the launcher was killed by signal %d", WTERMSIG(wait_status));
    else if (WEXITSTATUS(wait_status) > 128) /* what shells and mpirun make of a signal to a rank */
        (void)snprintf(text, n_bytes, "the launcher exited with code %d: a rank was killed by signal %d%s",
                       WEXITSTATUS(wait_status), WEXITSTATUS(wait_status) - 128,
                       WEXITSTATUS(wait_status) == 128 + SIGKILL ? " (out of memory?)" : "");
    else
        (void)snprintf(text, n_bytes, "the launcher exited with code %d", WEXITSTATUS(wait_status));
}
