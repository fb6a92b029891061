/* model/quantise_files.c - config.json and the side files of a quantised folder. */
#include "model/quantise_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "model/dims.h"
#include "model/quantisation.h"

#define PATH_BYTES  4096
#define CHUNK_BYTES ((size_t)1 << 20)
#define FILES_MAX   10000
#define KEY         "quantization_config"

static phx_code join(char *to, const char *dir, const char *name, phx_error *err)
{
    const int n = snprintf(to, PATH_BYTES, "%s/%s", dir, name);
    if (n < 0 || n >= PATH_BYTES)
        return PHX_FAIL(err, PHX_ERR_TOO_LONG, "the path of '%.80s' is longer than %d bytes", name,
                        PATH_BYTES);
    return PHX_OK;
}

/* The members of an object but the quantisation, which comes last where it belongs. */
static void write_object(phx_json_writer *w, const phx_json *object, const phx_json *holder,
                         const phx_quantisation *quantisation)
{
    phx_json_begin_object(w);
    for (phx_json_member it = phx_json_first(object); it.value; it = phx_json_next(object, it)) {
        if (phx_str_is(it.key, KEY))
            continue;
        phx_json_key_str(w, it.key);
        if (it.value != holder) {
            phx_json_node(w, it.value);
            continue;
        }
        phx_json_begin_object(w);
        for (phx_json_member in = phx_json_first(holder); in.value; in = phx_json_next(holder, in)) {
            if (phx_str_is(in.key, KEY))
                continue;
            phx_json_key_str(w, in.key);
            phx_json_node(w, in.value);
        }
        phx_json_key(w, KEY);
        phx_quantisation_write(quantisation, w);
        phx_json_end_object(w);
    }
    if (object == holder) {
        phx_json_key(w, KEY);
        phx_quantisation_write(quantisation, w);
    }
    phx_json_end_object(w);
}

phx_code phx_quantise_config(const char *model_dir, const char *out_dir, phx_format to, phx_error *err)
{
    phx_json *root = NULL;
    phx_json_writer w;
    phx_buf buf;
    char path[PATH_BYTES];
    phx_buf_init(&buf, 4u << 20);
    phx_code rc = join(path, model_dir, "config.json", err);
    if (rc == PHX_OK)
        rc = phx_json_parse_file(
            path, (phx_json_limits){PHX_CONFIG_BYTES_MAX, PHX_CONFIG_DEPTH_MAX, 200000, 200000}, &root, err);
    if (rc != PHX_OK)
        goto out;
    const phx_json *text = phx_json_get(root, "text_config");
    const bool nested = text && phx_json_kind_of(text) == PHX_JSON_OBJECT;
    const phx_quantisation quantisation = {.format = to};
    phx_json_writer_init(&w, &buf);
    write_object(&w, root, nested ? text : root, &quantisation);
    phx_buf_char(&buf, '\n');
    if (buf.code != PHX_OK)
        rc = PHX_FAIL(err, buf.code, "config.json");
    if (rc == PHX_OK)
        rc = join(path, out_dir, "config.json", err);
    if (rc == PHX_OK)
        rc = phx_file_write(path, (phx_bytes){(const uint8_t *)buf.ptr, buf.n}, 0644, err);
out:
    phx_json_destroy(root);
    phx_buf_done(&buf);
    return rc;
}

/* Into a temporary beside `to`, then by its name. */
static phx_code copy_file(const char *from, const char *to, uint8_t *chunk, phx_error *err)
{
    phx_code rc = PHX_OK;
    char temporary[PATH_BYTES + 32];
    ssize_t got = 0;
    int out = -1;
    const int in = open(from, O_RDONLY | O_CLOEXEC);
    (void)snprintf(temporary, sizeof(temporary), "%s.%d.tmp", to, (int)getpid());
    if (in < 0) {
        rc = PHX_FAIL(err, PHX_ERR_IO, "cannot open '%s': %s", from, strerror(errno));
        goto out;
    }
    out = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (out < 0) {
        rc = PHX_FAIL(err, PHX_ERR_IO, "cannot create '%s': %s", temporary, strerror(errno));
        goto out;
    }
    while ((got = read(in, chunk, CHUNK_BYTES)) > 0) {
        for (ssize_t done = 0; done < got;) {
            const ssize_t put = write(out, chunk + done, (size_t)(got - done));
            if (put <= 0) {
                rc = PHX_FAIL(err, PHX_ERR_IO, "cannot write '%s': %s", temporary, strerror(errno));
                goto out;
            }
            done += put;
        }
    }
    if (got < 0)
        rc = PHX_FAIL(err, PHX_ERR_IO, "cannot read '%s': %s", from, strerror(errno));
    else if (fsync(out) != 0 || rename(temporary, to) != 0)
        rc = PHX_FAIL(err, PHX_ERR_IO, "cannot finish '%s': %s", to, strerror(errno));
out:
    if (in >= 0)
        (void)close(in);
    if (out >= 0)
        (void)close(out);
    if (out >= 0 && rc != PHX_OK)
        (void)unlink(temporary);
    return rc;
}

static bool is_side_file(const char *name)
{
    static const char *const others[] = {".safetensors", ".bin", ".pt",       ".pth",
                                         ".gguf",        ".tmp", ".quantised"};
    if (name[0] == '.' || strcmp(name, "config.json") == 0 ||
        strcmp(name, "model.safetensors.index.json") == 0)
        return false;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (phx_str_ends(phx_str_of(name), phx_str_of(others[i])))
            return false;
    }
    return true;
}

phx_code phx_quantise_side_files(const char *model_dir, const char *out_dir, phx_error *err)
{
    phx_code rc = PHX_OK;
    int n = 0;
    uint8_t *chunk = phx_alloc(CHUNK_BYTES, 1);
    DIR *dir = opendir(model_dir);
    if (!chunk) {
        rc = PHX_FAIL(err, PHX_ERR_NOMEM, "buffer of copies");
        goto out;
    }
    if (!dir) {
        rc = PHX_FAIL(err, PHX_ERR_IO, "cannot list '%s': %s", model_dir, strerror(errno));
        goto out;
    }
    for (const struct dirent *entry = readdir(dir); entry && rc == PHX_OK; entry = readdir(dir)) {
        char from[PATH_BYTES];
        char to[PATH_BYTES];
        struct stat info;
        if (!is_side_file(entry->d_name))
            continue;
        if (++n > FILES_MAX) {
            rc = PHX_FAIL(err, PHX_ERR_TOO_LONG, "'%s' holds more than %d files", model_dir, FILES_MAX);
            break;
        }
        rc = join(from, model_dir, entry->d_name, err);
        if (rc == PHX_OK)
            rc = join(to, out_dir, entry->d_name, err);
        if (rc == PHX_OK && stat(from, &info) == 0 && S_ISREG(info.st_mode)) /* links of a hub's cache too */
            rc = copy_file(from, to, chunk, err);
    }
out:
    if (dir)
        (void)closedir(dir);
    phx_free(chunk);
    return rc;
}

phx_code phx_quantise_remove(const char *dir_path, const char *suffix, phx_error *err)
{
    DIR *dir = opendir(dir_path);
    if (!dir)
        return PHX_FAIL(err, PHX_ERR_IO, "cannot list '%s': %s", dir_path, strerror(errno));
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        char path[PATH_BYTES];
        phx_error ignored = {0};
        if (phx_str_ends(phx_str_of(entry->d_name), phx_str_of(suffix)) &&
            join(path, dir_path, entry->d_name, &ignored) == PHX_OK)
            (void)unlink(path);
    }
    (void)closedir(dir);
    return PHX_OK;
}
