/* tests/limits/maker.c - see maker.h. */
#include "tests/limits/maker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"

enum { TEXT_MAX = 256 << 20, PATH_BYTES = 512 };

void make_start(phx_buf *text, const char *head)
{
    phx_buf_init(text, TEXT_MAX);
    (void)phx_buf_str(text, head);
}

void make_fill(phx_buf *text, char c, size_t n)
{
    char piece[4096];
    memset(piece, c, sizeof(piece));
    for (size_t left = n; left > 0;) {
        const size_t now = left < sizeof(piece) ? left : sizeof(piece);
        (void)phx_buf_append(text, piece, now);
        left -= now;
    }
    assert_int_equal(text->code, PHX_OK);
}

void make_list(phx_buf *text, const char *before, size_t n, const char *behind)
{
    for (size_t i = 0; i < n; i++)
        (void)phx_buf_printf(text, "%s%s%zu%s", i ? "," : "", before, i, behind);
    assert_int_equal(text->code, PHX_OK);
}

phx_bytes make_bytes(const phx_buf *text)
{
    return (phx_bytes){(const uint8_t *)text->ptr, text->n};
}

void make_folder(char *ret_path, size_t n_bytes)
{
    (void)snprintf(ret_path, n_bytes, "/tmp/phx-limitsXXXXXX");
    assert_non_null(mkdtemp(ret_path));
}

void make_file(const char *dir, const char *name, const phx_buf *text)
{
    char path[PATH_BYTES];
    phx_error err = {0};
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    if (phx_file_write(path, make_bytes(text), 0600, &err) != PHX_OK)
        fail_msg("%s", err.text);
}

void make_remove(const char *dir)
{
    char path[PATH_BYTES];
    DIR *list = opendir(dir);
    for (const struct dirent *e; list && (e = readdir(list));) {
        (void)snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        (void)unlink(path);
    }
    if (list)
        (void)closedir(list);
    (void)rmdir(dir);
}

void make_demo(const char *name, phx_buf *ret_text)
{
    const char *source = getenv("PHX_SOURCE");
    char path[4096];
    phx_error err = {0};
    phx_buf_init(ret_text, TEXT_MAX);
    (void)snprintf(path, sizeof(path), "%s/launch/demo/%s", source ? source : ".", name);
    if (phx_file_read(path, ret_text, &err) != PHX_OK)
        fail_msg("%s", err.text);
}
