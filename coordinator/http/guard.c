/* coordinator/http/guard.c - judgements about header values, and the address to listen on. */
#include "coordinator/http/guard.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "coordinator/http/parse.h"

enum { BACKLOG = 4096 }; /* 128 made 1000 simultaneous connects take seconds */

phx_code phx_http_address_parse(const char *host, uint16_t port, phx_http_address *ret_address,
                                phx_error *err)
{
    phx_http_address address;
    char text[PHX_HTTP_ADDRESS_TEXT + 2];
    memset(&address, 0, sizeof(address));
    phx_str bare = phx_str_of(host);
    if (bare.n > 2 && bare.ptr[0] == '[' && bare.ptr[bare.n - 1] == ']')
        bare = (phx_str){bare.ptr + 1, bare.n - 2};
    const bool fits =
        phx_str_copy(text, sizeof(text), phx_str_is(bare, "localhost") ? phx_str_of("127.0.0.1") : bare);
    if (fits && inet_pton(AF_INET, text, &address.v4.sin_addr) == 1) {
        address.v4.sin_family = AF_INET;
        address.v4.sin_port = htons(port);
    } else if (fits && inet_pton(AF_INET6, text, &address.v6.sin6_addr) == 1) {
        address.v6.sin6_family = AF_INET6;
        address.v6.sin6_port = htons(port);
    } else {
        return PHX_FAIL(err, PHX_ERR_INVALID,
                        "cannot listen on '%s': give a numeric address such as 127.0.0.1 or ::1", host);
    }
    *ret_address = address;
    return PHX_OK;
}

bool phx_http_address_is_loopback(const phx_http_address *address)
{
    if (address->any.sa_family == AF_INET)
        return (ntohl(address->v4.sin_addr.s_addr) >> 24) == 127;
    const uint8_t *bytes = address->v6.sin6_addr.s6_addr;
    if (IN6_IS_ADDR_V4MAPPED(&address->v6.sin6_addr))
        return bytes[12] == 127;
    return IN6_IS_ADDR_LOOPBACK(&address->v6.sin6_addr);
}

void phx_http_address_text(const phx_http_address *address, char ret_text[PHX_HTTP_ADDRESS_TEXT])
{
    const char *text = NULL;
    if (address->any.sa_family == AF_INET)
        text = inet_ntop(AF_INET, &address->v4.sin_addr, ret_text, PHX_HTTP_ADDRESS_TEXT);
    else if (address->any.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&address->v6.sin6_addr))
        text = inet_ntop(AF_INET, &address->v6.sin6_addr.s6_addr[12], ret_text, PHX_HTTP_ADDRESS_TEXT);
    else if (address->any.sa_family == AF_INET6)
        text = inet_ntop(AF_INET6, &address->v6.sin6_addr, ret_text, PHX_HTTP_ADDRESS_TEXT);
    if (!text)
        (void)snprintf(ret_text, PHX_HTTP_ADDRESS_TEXT, "unknown");
}

phx_http_peer phx_http_peer_of(const phx_http_address *address)
{
    phx_http_peer peer = {{0}};
    if (address->any.sa_family == AF_INET) {
        peer.bytes[10] = 0xff;
        peer.bytes[11] = 0xff;
        memcpy(peer.bytes + 12, &address->v4.sin_addr, 4);
    } else if (address->any.sa_family == AF_INET6) {
        const bool is_v4 = IN6_IS_ADDR_V4MAPPED(&address->v6.sin6_addr);
        memcpy(peer.bytes, &address->v6.sin6_addr, is_v4 ? 16 : 8);
    }
    return peer;
}

phx_code phx_http_listen(const phx_http_address *address, int *ret_fd, phx_error *err)
{
    phx_code rc = PHX_OK;
    const int yes = 1;
    char text[PHX_HTTP_ADDRESS_TEXT];
    phx_http_address_text(address, text);
    const bool is_v6 = address->any.sa_family == AF_INET6;
    const unsigned port = ntohs(is_v6 ? address->v6.sin6_port : address->v4.sin_port);
    const socklen_t n_address = is_v6 ? sizeof(address->v6) : sizeof(address->v4);
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        rc = PHX_FAIL(err, PHX_ERR_IO, "cannot open a socket for %s: %s", text, strerror(errno));
        goto out;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    if (bind(fd, &address->any, n_address) != 0 || listen(fd, BACKLOG) != 0) {
        if (errno == EADDRINUSE)
            rc = PHX_FAIL(err, PHX_ERR_IN_USE,
                          "%s port %u is in use by another program: stop it or choose another with --http",
                          text, port);
        else
            rc = PHX_FAIL(err, errno == EACCES ? PHX_ERR_DENIED : PHX_ERR_IO,
                          "cannot listen on %s port %u: %s", text, port, strerror(errno));
        goto out;
    }
    *ret_fd = fd;
    fd = -1;
out:
    if (fd >= 0)
        (void)close(fd);
    return rc;
}

/* Splits "name:port" and "[v6]:port"; false when the port is not a number or nothing is left. */
static bool host_split(phx_str host, phx_str *ret_name)
{
    phx_str name = host;
    size_t i = host.n;
    while (i > 0 && host.ptr[i - 1] >= '0' && host.ptr[i - 1] <= '9')
        i--;
    if (i > 0 && host.ptr[i - 1] == ':') {
        if (host.n - i > 5 || host.n == i)
            return false;
        name.n = i - 1;
    }
    if (name.n == 0)
        return false;
    *ret_name = name;
    return true;
}

bool phx_http_host_allowed(phx_str host, const char *const *extra, size_t n_extra)
{
    static const char *const loopback[] = {"localhost", "127.0.0.1", "[::1]"};
    phx_str name = {NULL, 0};
    if (!host_split(host, &name))
        return false;
    for (size_t i = 0; i < sizeof(loopback) / sizeof(loopback[0]); i++) {
        if (phx_http_is_nocase(name, loopback[i]))
            return true;
    }
    for (size_t i = 0; i < n_extra; i++) {
        if (phx_http_is_nocase(name, extra[i]))
            return true;
    }
    return false;
}

bool phx_http_origin_is_own(phx_str origin, phx_str host)
{
    const phx_str schemes[] = {phx_str_of("http://"), phx_str_of("https://")};
    for (size_t i = 0; i < 2; i++) {
        if (phx_str_starts(origin, schemes[i]))
            return phx_str_eq((phx_str){origin.ptr + schemes[i].n, origin.n - schemes[i].n}, host);
    }
    return false;
}

static phx_str trimmed(phx_str text)
{
    while (text.n > 0 && (text.ptr[0] == ' ' || text.ptr[0] == '\t'))
        text = (phx_str){text.ptr + 1, text.n - 1};
    while (text.n > 0 && (text.ptr[text.n - 1] == ' ' || text.ptr[text.n - 1] == '\t'))
        text.n--;
    return text;
}

bool phx_http_type_is_json(phx_str content_type)
{
    phx_str rest = content_type;
    for (bool is_first = true; rest.n > 0 || is_first; is_first = false) {
        const char *end = rest.n ? memchr(rest.ptr, ';', rest.n) : NULL;
        const size_t n = end ? (size_t)(end - rest.ptr) : rest.n;
        const phx_str part = trimmed((phx_str){rest.ptr, n});
        rest = end ? (phx_str){rest.ptr + n + 1, rest.n - n - 1} : (phx_str){"", 0};
        if (is_first && !phx_http_is_nocase(part, "application/json"))
            return false;
        if (is_first || part.n < 8 || !phx_http_is_nocase((phx_str){part.ptr, 8}, "charset="))
            continue;
        const phx_str charset = {part.ptr + 8, part.n - 8};
        if (!phx_http_is_nocase(charset, "utf-8") && !phx_http_is_nocase(charset, "\"utf-8\""))
            return false;
    }
    return true;
}
