/* tests/text/tokenizer_fixture.c - shared data for the tests of coordinator/text. */
#include "tests/text/tokenizer_fixture.h"
#include "base/alloc.h"
#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILE_BYTES_MAX (64u << 20)

static void die(const char *what, const char *detail)
{
    (void)printf("fixture: %s: %s\n", what, detail);
    exit(1);
}

static const char *path_of(const char *name, char *path, size_t n)
{
    const char *shared = getenv("PHX_SHARED");
    (void)snprintf(path, n, "%s/%s", shared ? shared : "../shared", name);
    return path;
}

bool fixture_present(void)
{
    char path[2048];
    if (phx_file_exists(path_of("demo/tokenizer.json", path, sizeof(path))) &&
        phx_file_exists(path_of("tokenizers/SOURCES.md", path, sizeof(path))))
        return true;
    (void)printf("SKIP: no shared test data (PHX_SHARED)\n");
    return false;
}

void fixture_read(const char *name, phx_buf *buf)
{
    char path[2048];
    phx_error err = {0};
    phx_buf_init(buf, FILE_BYTES_MAX);
    if (phx_file_read(path_of(name, path, sizeof(path)), buf, &err) != PHX_OK)
        die(name, err.text);
}

void fixture_gunzip(const char *name, phx_buf *buf)
{
    char path[2048];
    char chunk[65536];
    int ends[2];
    int status = 0;
    phx_buf_init(buf, FILE_BYTES_MAX);
    if (pipe(ends) != 0)
        die(name, "pipe");
    const pid_t child = fork();
    if (child == 0) {
        (void)dup2(ends[1], STDOUT_FILENO);
        (void)close(ends[0]);
        (void)close(ends[1]);
        (void)execlp("gzip", "gzip", "-dc", path_of(name, path, sizeof(path)), (char *)NULL);
        _exit(127);
    }
    (void)close(ends[1]);
    for (ssize_t n = 1; n > 0;) {
        n = read(ends[0], chunk, sizeof(chunk));
        if (n > 0 && phx_buf_append(buf, chunk, (size_t)n) != PHX_OK)
            die(name, "too large");
    }
    (void)close(ends[0]);
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        die(name, "gzip -dc failed");
}

phx_bytes fixture_bytes(const phx_buf *buf)
{
    return (phx_bytes){(const uint8_t *)buf->ptr, buf->n};
}

phx_json *fixture_json(const char *name)
{
    char path[2048];
    phx_json *root = NULL;
    phx_error err = {0};
    if (phx_json_parse_file(path_of(name, path, sizeof(path)), PHX_JSON_LIMITS_FILE, &root, &err) != PHX_OK)
        die(name, err.text);
    return root;
}

phx_json *fixture_json_with_nul(const char *name)
{
    phx_buf file;
    phx_json *root = NULL;
    phx_error err = {0};
    fixture_read(name, &file);
    if (strstr(file.ptr, "\\ue0b7") || strstr(file.ptr, "\xEE\x82\xB7"))
        die(name, "holds the stand-in for NUL itself");
    for (char *at = file.ptr; (at = strstr(at, "\\u0000")); at++)
        memcpy(at, "\\ue0b7", 6);
    if (phx_json_parse((phx_bytes){(const uint8_t *)file.ptr, file.n}, PHX_JSON_LIMITS_FILE, &root, &err) !=
        PHX_OK)
        die(name, err.text);
    phx_buf_done(&file);
    return root;
}

void fixture_text(const phx_json *node, phx_buf *buf)
{
    phx_str text;
    phx_buf_init(buf, FILE_BYTES_MAX);
    (void)phx_buf_str(buf, "");
    if (!phx_json_as_str(node, &text))
        die("text", "not a string");
    for (size_t i = 0; i < text.n; i++) {
        const bool is_nul = text.n - i >= 3 && memcmp(text.ptr + i, "\xEE\x82\xB7", 3) == 0;
        (void)phx_buf_char(buf, is_nul ? '\0' : text.ptr[i]);
        i += is_nul ? 2 : 0;
    }
    if (buf->code != PHX_OK)
        die("text", "too long");
}

phx_tokenizer *fixture_tokenizer(const char *json_name, const char *config_name)
{
    phx_buf json;
    phx_buf config;
    phx_tokenizer *tokenizer = NULL;
    phx_error err = {0};
    if (phx_str_ends(phx_str_of(json_name), phx_str_of(".gz")))
        fixture_gunzip(json_name, &json);
    else
        fixture_read(json_name, &json);
    fixture_read(config_name, &config);
    if (phx_tokenizer_parse((phx_bytes){(const uint8_t *)json.ptr, json.n},
                            (phx_bytes){(const uint8_t *)config.ptr, config.n}, &tokenizer, &err) != PHX_OK)
        die(json_name, err.text);
    phx_buf_done(&json);
    phx_buf_done(&config);
    return tokenizer;
}

uint32_t *fixture_encode(const phx_tokenizer *tokenizer, phx_str text, bool parse_added, size_t *ret_n)
{
    phx_error err = {0};
    uint32_t *ids = phx_alloc(text.n + 1, sizeof(*ids));
    if (!ids)
        die("encode", "out of memory");
    if (phx_tokenizer_encode(
            tokenizer,
            &(phx_encode_args){.text = text, .parse_added = parse_added, .ids = ids, .n_ids_max = text.n + 1},
            ret_n, &err) != PHX_OK)
        die("encode", err.text);
    return ids;
}

void fixture_decode(const phx_tokenizer *tokenizer, const uint32_t *ids, size_t n_ids, phx_buf *buf)
{
    phx_buf_init(buf, FILE_BYTES_MAX);
    (void)phx_buf_str(buf, "");
    for (size_t i = 0; i < n_ids; i++) {
        phx_str piece;
        if (!phx_tokenizer_piece(tokenizer, ids[i], &piece))
            die("decode", "unknown id");
        (void)phx_buf_append(buf, piece.ptr, piece.n);
    }
    if (buf->code != PHX_OK)
        die("decode", "too long");
}
