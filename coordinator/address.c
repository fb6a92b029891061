/* coordinator/address.c - host lists and HOST:PORT texts. */
#include "coordinator/address.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/file.h"

phx_code phx_address_split(const char *text, char *ret_host, size_t n_host_bytes, uint16_t *ret_port,
                           phx_error *err)
{
    const char *colon = strrchr(text, ':');
    uint64_t port;
    if (!colon || !phx_str_to_u64(phx_str_of(colon + 1), 0, 65535, &port))
        return PHX_FAIL(err, PHX_ERR_INVALID, "'%s' is not HOST:PORT, as in 127.0.0.1:8000", text);
    phx_str host = {text, (size_t)(colon - text)};
    if (host.n >= 2 && host.ptr[0] == '[' && host.ptr[host.n - 1] == ']')
        host = (phx_str){host.ptr + 1, host.n - 2};
    if (host.n == 0 || host.n >= n_host_bytes)
        return PHX_FAIL(err, PHX_ERR_INVALID, "'%s' names no host", text);
    (void)phx_str_copy(ret_host, n_host_bytes, host);
    *ret_port = (uint16_t)port;
    return PHX_OK;
}

/* One line of a host file: name, then slots=N or :N. */
static void add_host(phx_buf *list, phx_str line)
{
    const char *hash = memchr(line.ptr, '#', line.n);
    line.n = hash ? (size_t)(hash - line.ptr) : line.n;
    size_t first = 0;
    while (first < line.n && (line.ptr[first] == ' ' || line.ptr[first] == '\t'))
        first++;
    size_t end = first;
    while (end < line.n && line.ptr[end] != ' ' && line.ptr[end] != '\t' && line.ptr[end] != '\r')
        end++;
    if (end == first)
        return;
    if (list->n)
        (void)phx_buf_char(list, ',');
    (void)phx_buf_append(list, line.ptr + first, end - first);
    static const char slots[] = "slots=";
    for (size_t i = end; i + sizeof(slots) - 1 < line.n; i++) {
        if (memcmp(line.ptr + i, slots, sizeof(slots) - 1) != 0)
            continue;
        size_t n = 0;
        const char *number = line.ptr + i + sizeof(slots) - 1;
        while (number + n < line.ptr + line.n && number[n] >= '0' && number[n] <= '9')
            n++;
        (void)phx_buf_char(list, ':');
        (void)phx_buf_append(list, number, n);
        break;
    }
}

/* NAME or NAME:RANKS, with commas between. */
static phx_code check_hosts(const char *list, phx_error *err)
{
    for (const char *at = list;; at++) {
        const size_t n = strcspn(at, ",");
        const char *colon = memchr(at, ':', n);
        const size_t n_name = colon ? (size_t)(colon - at) : n;
        uint64_t ranks = 1;
        if (n_name == 0 || (colon && !phx_str_to_u64((phx_str){colon + 1, n - n_name - 1}, 1, 65535, &ranks)))
            return PHX_FAIL(err, PHX_ERR_INVALID,
                            "--hosts: '%.*s' is not HOST or HOST:RANKS with at least one rank", (int)n, at);
        at += n;
        if (!*at)
            return PHX_OK;
    }
}

phx_code phx_hosts_list(const char *list_or_file, char *ret_list, size_t n_bytes, phx_error *err)
{
    phx_buf text, list;
    phx_code rc = PHX_OK;
    if (!strchr(list_or_file, '/')) {
        if (!phx_str_copy(ret_list, n_bytes, phx_str_of(list_or_file)))
            rc = PHX_FAIL(err, PHX_ERR_TOO_LONG, "--hosts is longer than %zu bytes", n_bytes);
        return rc == PHX_OK && *ret_list ? check_hosts(ret_list, err) : rc;
    }
    phx_buf_init(&text, 64u << 10);
    phx_buf_init(&list, n_bytes - 1);
    rc = phx_file_read(list_or_file, &text, err);
    for (size_t at = 0; rc == PHX_OK && at < text.n;) {
        const char *end = memchr(text.ptr + at, '\n', text.n - at);
        const size_t n = end ? (size_t)(end - (text.ptr + at)) : text.n - at;
        add_host(&list, (phx_str){text.ptr + at, n});
        at += n + 1;
    }
    if (rc == PHX_OK && (list.code != PHX_OK || list.n == 0))
        rc = PHX_FAIL(err, PHX_ERR_INVALID, "host file '%s' is empty or too long", list_or_file);
    if (rc == PHX_OK)
        (void)phx_str_copy(ret_list, n_bytes, phx_buf_view(&list));
    if (rc == PHX_OK)
        rc = check_hosts(ret_list, err);
    phx_buf_done(&text);
    phx_buf_done(&list);
    return rc;
}

phx_code phx_path_make_all(const char *path)
{
    char partial[4096];
    if (!phx_str_copy(partial, sizeof(partial), phx_str_of(path)))
        return PHX_ERR_TOO_LONG;
    for (char *at = partial + 1;; at++) {
        const char kept = *at;
        if (kept != '/' && kept != 0)
            continue;
        *at = 0;
        if (mkdir(partial, 0700) != 0 && errno != EEXIST)
            return PHX_ERR_IO;
        if (kept == 0)
            return PHX_OK;
        *at = kept;
    }
}
