/* base/paths.c - where our files lie. */
#include "base/paths.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

/* snprintf with our error. */
#define PUT(ret_path, n_bytes, err, ...) \
    check_length(snprintf((ret_path), (n_bytes), __VA_ARGS__), (n_bytes), (err))

static phx_code check_length(int n, size_t n_bytes, phx_error *err)
{
    if (n < 0 || (size_t)n >= n_bytes)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "a path of %d bytes does not fit into %zu", n, n_bytes);
    return PHX_OK;
}

static phx_code program_dir(char *ret_dir, size_t n_bytes, phx_error *err)
{
    const ssize_t n = readlink("/proc/self/exe", ret_dir, n_bytes - 1);
    if (n < 0 || (size_t)n >= n_bytes - 1)
        return PHX_FAIL(err, PHX_ERR_IO, "cannot read /proc/self/exe: %s",
                        n < 0 ? strerror(errno) : "too long");
    ret_dir[n] = 0;
    char *slash = strrchr(ret_dir, '/');
    if (!slash)
        return PHX_FAIL(err, PHX_ERR_IO, "/proc/self/exe is '%s', not a path", ret_dir);
    *slash = 0;
    return PHX_OK;
}

phx_code phx_path_beside(const char *name, char *ret_path, size_t n_bytes, phx_error *err)
{
    char dir[PHX_PATH_MAX];
    const phx_code rc = program_dir(dir, sizeof(dir), err);
    if (rc != PHX_OK)
        return rc;
    return PUT(ret_path, n_bytes, err, "%s/%s", dir, name);
}

phx_code phx_path_demo(char *ret_path, size_t n_bytes, phx_error *err)
{
    static const char *const places[] = {"../launch/demo", "../share/phalanx/demo"};
    char dir[PHX_PATH_MAX];
    phx_code rc = program_dir(dir, sizeof(dir), err);
    for (size_t i = 0; rc == PHX_OK && i < sizeof(places) / sizeof(places[0]); i++) {
        char config[PHX_PATH_MAX];
        rc = PUT(config, sizeof(config), err, "%s/%s/config.json", dir, places[i]);
        if (rc == PHX_OK && phx_file_exists(config))
            return PUT(ret_path, n_bytes, err, "%s/%s", dir, places[i]);
    }
    if (rc != PHX_OK)
        return rc;
    return PHX_FAIL(err, PHX_ERR_NOT_FOUND, "no demo model in '%s/%s' or '%s/%s': give --model DIR", dir,
                    places[0], dir, places[1]);
}

phx_code phx_path_runtime(const char *runtime_dir, char *ret_path, size_t n_bytes, phx_error *err)
{
    if (runtime_dir && *runtime_dir)
        return PUT(ret_path, n_bytes, err, "%s/phalanx", runtime_dir);
    return PUT(ret_path, n_bytes, err, "/tmp/phalanx-%u", (unsigned)getuid());
}

phx_code phx_path_control(const char *runtime_dir, char *ret_address, size_t n_bytes, phx_error *err)
{
    char dir[PHX_PATH_MAX];
    const phx_code rc = phx_path_runtime(runtime_dir, dir, sizeof(dir), err);
    if (rc != PHX_OK)
        return rc;
    return PUT(ret_address, n_bytes, err, "ipc://%s/control", dir);
}

phx_code phx_path_make_private(const char *path, phx_error *err)
{
    struct stat st;
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return PHX_FAIL(err, PHX_ERR_IO, "cannot make the folder '%s': %s", path, strerror(errno));
    if (lstat(path, &st) != 0)
        return PHX_FAIL(err, PHX_ERR_IO, "cannot look at '%s': %s", path, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return PHX_FAIL(err, PHX_ERR_DENIED, "'%s' is not a folder: remove it", path);
    if (st.st_uid != geteuid())
        return PHX_FAIL(err, PHX_ERR_DENIED, "'%s' belongs to user %u, not to us", path, (unsigned)st.st_uid);
    if (st.st_mode & 077)
        return PHX_FAIL(err, PHX_ERR_DENIED, "'%s' is open to others: chmod 700 '%s'", path, path);
    return PHX_OK;
}
