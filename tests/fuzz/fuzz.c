/* tests/fuzz/fuzz.c - checks, tapes and scratch files of the fuzz targets. */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/json.h"
#include "base/rng.h"

#define PATH_BYTES 4096

void fuzz_fail(const char *what, const char *place)
{
    (void)fprintf(stderr, "fuzz: %s: broken: %s\n", place, what);
    (void)fflush(NULL);
    abort();
}

void fuzz_check_refusal(phx_code rc, const phx_error *err)
{
    if (rc == PHX_OK || rc >= PHX_CODE_COUNT || err->code != rc || !err->text[0] || !err->place[0])
        (void)fprintf(stderr, "fuzz: returned %s, recorded %s '%s' at %s\n", phx_code_name(rc),
                      phx_code_name(err->code), err->text, err->place);
    FUZZ_CHECK(rc != PHX_OK && rc < PHX_CODE_COUNT);
    FUZZ_CHECK(err->code == rc);
    FUZZ_CHECK(err->text[0] != 0 && err->place[0] != 0);
    FUZZ_CHECK(rc != PHX_ERR_INTERNAL);
    FUZZ_CHECK(rc != PHX_ERR_NOMEM); /* no input of ours is large enough to deserve that */
}

void fuzz_must(phx_code rc, const phx_error *err)
{
    if (rc == PHX_OK)
        return;
    (void)fprintf(stderr, "fuzz: %s: %s (%s)\n", phx_code_name(rc), err->text, err->place);
    fuzz_fail("must succeed", err->place);
}

void fuzz_check_object(phx_str text)
{
    phx_json *root = NULL;
    phx_error err = {0};
    if (memmem(text.ptr, text.n, "\\u0000", 6))
        return;
    fuzz_must(phx_json_parse_loose((phx_bytes){(const uint8_t *)text.ptr, text.n}, PHX_JSON_LIMITS_FILE,
                                   &root, &err),
              &err);
    FUZZ_CHECK(phx_json_kind_of(root) == PHX_JSON_OBJECT);
    phx_json_destroy(root);
}

uint8_t fuzz_u8(fuzz_tape *tape)
{
    if (tape->n == 0)
        return 0;
    tape->n--;
    return *tape->ptr++;
}

uint32_t fuzz_u32(fuzz_tape *tape)
{
    uint32_t value = 0;
    for (unsigned i = 0; i < 4; i++)
        value |= (uint32_t)fuzz_u8(tape) << (8 * i);
    return value;
}

uint64_t fuzz_u64(fuzz_tape *tape)
{
    const uint64_t low = fuzz_u32(tape);
    return low | (uint64_t)fuzz_u32(tape) << 32;
}

phx_bytes fuzz_take(fuzz_tape *tape, size_t n)
{
    const phx_bytes taken = {tape->ptr, n < tape->n ? n : tape->n};
    if (taken.n > 0)
        tape->ptr += taken.n;
    tape->n -= taken.n;
    return taken;
}

phx_bytes fuzz_rest(fuzz_tape *tape)
{
    return fuzz_take(tape, tape->n);
}

phx_bytes fuzz_take_part(fuzz_tape *tape)
{
    static const char line[] = "\n---\n";
    const uint8_t *mark = tape->n ? memmem(tape->ptr, tape->n, line, sizeof(line) - 1) : NULL;
    if (!mark)
        return fuzz_rest(tape);
    const phx_bytes part = fuzz_take(tape, (size_t)(mark - tape->ptr));
    (void)fuzz_take(tape, sizeof(line) - 1);
    return part;
}

phx_bytes fuzz_line(fuzz_tape *tape)
{
    const uint8_t *end = tape->n ? memchr(tape->ptr, '\n', tape->n) : NULL;
    if (!end)
        return fuzz_rest(tape);
    const phx_bytes line = fuzz_take(tape, (size_t)(end - tape->ptr));
    (void)fuzz_u8(tape);
    return line;
}

size_t fuzz_next_cut(fuzz_cuts *cuts, size_t n_left)
{
    const uint64_t bits = phx_rng_key(cuts->key, cuts->n_drawn++, 0, 0);
    const size_t largest = (bits & 3) == 0 ? 64 : (bits & 3) == 1 ? 8 : 2; /* mostly tiny: cuts in marks */
    const size_t n = 1 + (size_t)((bits >> 2) % largest);
    return n < n_left ? n : n_left;
}

const char *fuzz_source_path(const char *name)
{
    static char path[PATH_BYTES];
    const char *root = getenv("PHX_SOURCE");
    (void)snprintf(path, sizeof(path), "%s/%s", root ? root : PHX_FUZZ_SOURCE, name);
    return path;
}

/* The folder's name; also the place where the clean-up finds it. */
static char *folder_name(void)
{
    static char name[PATH_BYTES];
    return name;
}

static void folder_drop(void)
{
    DIR *dir = opendir(folder_name());
    if (!dir)
        return;
    for (struct dirent *entry; (entry = readdir(dir));)
        if (entry->d_name[0] != '.')
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    (void)closedir(dir);
    (void)rmdir(folder_name());
}

const char *fuzz_folder(void)
{
    char *name = folder_name();
    if (name[0])
        return name;
    const char *root = getenv("TMPDIR");
    if (access("/dev/shm", W_OK) == 0) /* files are written by the thousand */
        root = "/dev/shm";
    (void)snprintf(name, PATH_BYTES, "%s/phx_fuzz_XXXXXX", root && root[0] ? root : "/tmp");
    FUZZ_CHECK(mkdtemp(name) != NULL);
    FUZZ_CHECK(atexit(folder_drop) == 0);
    return name;
}

const char *fuzz_file(const char *name, phx_bytes content)
{
    static char path[PATH_BYTES + 256];
    (void)snprintf(path, sizeof(path), "%s/%s", fuzz_folder(), name);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FUZZ_CHECK(fd >= 0);
    for (size_t at = 0; at < content.n;) {
        const ssize_t n = write(fd, content.ptr + at, content.n - at);
        FUZZ_CHECK(n > 0);
        at += (size_t)n;
    }
    FUZZ_CHECK(close(fd) == 0);
    return path;
}
