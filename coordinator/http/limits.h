/* coordinator/http/limits.h - every bound of the HTTP layer, in one list.
 * Owns: names, defaults and the largest value that may be configured; docs, checks and tests come from it.
 * A limit names the largest value that is still accepted. */
#ifndef PHX_COORDINATOR_HTTP_LIMITS_H
#define PHX_COORDINATOR_HTTP_LIMITS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* field, default, ceiling, what it bounds */
#define PHX_HTTP_LIMITS(X)                                                                         \
    X(request_line_bytes, 8192, 65536, "request line without its line end")                        \
    X(header_bytes, 8192, 65536, "one header line without its line end")                           \
    X(headers_bytes, 32768, 262144, "all header lines with their line ends")                       \
    X(n_headers, 100, 1000, "header lines")                                                        \
    X(body_bytes, 8388608, 67108864, "body of one request")                                        \
    X(body_total_bytes, 268435456, 17179869184, "bodies being received, all connections together") \
    X(n_chunks, 65536, 1048576, "chunks of one body")                                              \
    X(n_chunks_any, 256, 65536, "chunks of any size before the average below counts")              \
    X(chunk_avg_bytes, 64, 65536, "smallest average chunk after those")                            \
    X(n_conns, 1024, 65536, "open connections")                                                    \
    X(n_conns_key, 256, 65536, "open connections of one API key")                                  \
    X(n_conns_address, 64, 65536, "open connections of one address (IPv6: one /64)")               \
    X(n_fds_reserved, 32, 4096, "descriptors that connections leave free")                         \
    X(header_ms, 10000, 3600000, "time to send a request's head")                                  \
    X(body_grace_ms, 10000, 3600000, "time before the rate of a body counts")                      \
    X(body_rate_bytes_s, 1024, 1073741824, "slowest body that is still read, bytes per second")    \
    X(idle_ms, 60000, 3600000, "silence between two requests")                                     \
    X(unsent_soft_bytes, 262144, 67108864, "unsent bytes that a stream may keep for long")         \
    X(unsent_soft_ms, 30000, 3600000, "how long; also the longest stall of any reply")             \
    X(unsent_hard_bytes, 1048576, 67108864, "unsent bytes of a stream at any time")                \
    X(reply_bytes, 67108864, 268435456, "body of one reply that is not a stream")                  \
    X(pipelined_bytes, 65536, 1048576, "bytes received while a reply is owed")                     \
    X(linger_ms, 1000, 60000, "wait for the client's close after ours")                            \
    X(linger_bytes, 67108864, 268435456, "bytes thrown away meanwhile")

typedef struct phx_http_limits {
#define X(field, value, ceiling, text) uint64_t field;
    PHX_HTTP_LIMITS(X)
#undef X
} phx_http_limits;

phx_http_limits phx_http_limits_default(void);

/* Every limit between 1 and its ceiling, soft below hard. PHX_ERR_INVALID names the first that is not. */
phx_code phx_http_limits_check(const phx_http_limits *limits, phx_error *err);

#endif
