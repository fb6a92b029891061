/* coordinator/http/guard.h - judgements about header values, and the address to listen on. Pure functions
 * but for phx_http_listen. */
#ifndef PHX_COORDINATOR_HTTP_GUARD_H
#define PHX_COORDINATOR_HTTP_GUARD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "base/str.h"

typedef union phx_http_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} phx_http_address;

/* host: a numeric address ("127.0.0.1", "::1", "0.0.0.0", with or without brackets) or "localhost". */
phx_code phx_http_address_parse(const char *host, uint16_t port, phx_http_address *ret_address,
                                phx_error *err);
bool phx_http_address_is_loopback(const phx_http_address *address);

/* "127.0.0.1" or "::1", without port; an IPv4 address inside IPv6 is shown as IPv4. */
#define PHX_HTTP_ADDRESS_TEXT 46u
void phx_http_address_text(const phx_http_address *address, char ret_text[PHX_HTTP_ADDRESS_TEXT]);

/* 16 bytes that are equal for connections which count as one address: the IPv4 address, or the /64 of IPv6.
 */
typedef struct phx_http_peer {
    uint8_t bytes[16];
} phx_http_peer;
phx_http_peer phx_http_peer_of(const phx_http_address *address);

/* Bound and listening, close-on-exec, non-blocking. PHX_ERR_IN_USE when somebody else listens there. */
phx_code phx_http_listen(const phx_http_address *address, int *ret_fd, phx_error *err);

/* Value of Host: name or address with an optional port. loopback names are always allowed; extra holds more
 * names without port, in lower case. */
bool phx_http_host_allowed(phx_str host, const char *const *extra, size_t n_extra);

/* Value of Origin: allowed when it is http(s):// and exactly the request's own Host. */
bool phx_http_origin_is_own(phx_str origin, phx_str host);

/* application/json, parameters allowed, a charset only utf-8. */
bool phx_http_type_is_json(phx_str content_type);

#endif
