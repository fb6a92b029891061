/* coordinator/http/fault.h - every reason for which the layer itself refuses a request or ends a connection.
 * Owns: status, machine-readable code and text of each; the counters in phx_http_stats follow this list.
 * Not here: errors of the routes (phx_http_reply_error). */
#ifndef PHX_COORDINATOR_HTTP_FAULT_H
#define PHX_COORDINATOR_HTTP_FAULT_H

/* name, status (0: closed without an answer), code, message */
#define PHX_HTTP_FAULTS(X)                                                                                \
    X(NONE, 0, "none", "")                                                                                \
    X(REQUEST_LINE, 400, "bad_request_line", "malformed request line")                                    \
    X(TARGET, 400, "bad_target", "the request target must be a path that starts with '/'")                \
    X(URI_LENGTH, 414, "request_line_too_long", "the request line is too long")                           \
    X(VERSION, 505, "bad_http_version", "only HTTP/1.1 is accepted")                                      \
    X(HEADER, 400, "bad_header", "malformed header line")                                                 \
    X(HEADER_LENGTH, 431, "header_too_long", "a header line is too long")                                 \
    X(HEADERS_LENGTH, 431, "headers_too_large", "the headers are too large")                              \
    X(N_HEADERS, 431, "too_many_headers", "too many header lines")                                        \
    X(DUPLICATE, 400, "duplicate_header", "a header that may appear once appears twice")                  \
    X(CONTENT_LENGTH, 400, "bad_content_length", "Content-Length must be a plain number")                 \
    X(TRANSFER_ENCODING, 400, "bad_transfer_encoding", "Transfer-Encoding must be exactly chunked")       \
    X(LENGTH_CONFLICT, 400, "length_conflict", "Content-Length and Transfer-Encoding exclude each other") \
    X(HOST_MISSING, 400, "host_missing", "a Host header is required")                                     \
    X(BODY_LENGTH, 413, "body_too_large", "the body is too large")                                        \
    X(BODY_UNEXPECTED, 400, "unexpected_body", "this method takes no body")                               \
    X(CHUNK, 400, "bad_chunk", "malformed chunk")                                                         \
    X(CHUNK_EXTENSION, 400, "chunk_extension", "chunk extensions are not accepted")                       \
    X(TRAILER, 400, "trailer", "trailers are not accepted")                                               \
    X(N_CHUNKS, 413, "too_many_chunks", "the body has too many chunks")                                   \
    X(CHUNK_SIZE, 413, "chunks_too_small", "the body's chunks are too small")                             \
    X(CONTENT_ENCODING, 415, "content_encoding", "compressed bodies are not accepted")                    \
    X(CONTENT_TYPE, 415, "content_type", "Content-Type must be application/json")                         \
    X(EXPECT, 417, "bad_expect", "only Expect: 100-continue is accepted")                                 \
    X(HOST, 403, "host_not_allowed", "this Host is not served here")                                      \
    X(ORIGIN, 403, "origin_not_allowed", "requests from other origins are not accepted")                  \
    X(KEY, 401, "invalid_api_key", "a valid API key is required: Authorization: Bearer KEY")              \
    X(NOT_FOUND, 404, "unknown_url", "unknown path")                                                      \
    X(METHOD, 405, "method_not_allowed", "this path does not take this method")                           \
    X(HEADER_TIMEOUT, 408, "header_timeout", "the request's head took too long")                          \
    X(BODY_TIMEOUT, 408, "body_timeout", "the body arrives too slowly")                                   \
    X(BODY_MEMORY, 503, "body_memory", "too many large bodies at once; try again later")                  \
    X(N_CONNS, 503, "too_many_connections", "too many connections; try again later")                      \
    X(N_FDS, 503, "too_many_connections", "too few descriptors left; try again later")                    \
    X(N_CONNS_ADDRESS, 429, "too_many_connections_address", "too many connections from this address")     \
    X(N_CONNS_KEY, 429, "too_many_connections_key", "too many connections with this API key")             \
    X(NO_MEMORY, 500, "out_of_memory", "out of memory")                                                   \
    X(IDLE, 0, "idle", "silent for too long between requests")                                            \
    X(PIPELINED, 0, "pipelined", "sent too much while a reply was owed")                                  \
    X(SLOW_READER, 0, "slow_reader", "does not read its reply")

typedef enum phx_http_fault {
#define X(name, status, code, text) PHX_HTTP_FAULT_##name,
    PHX_HTTP_FAULTS(X)
#undef X
        PHX_HTTP_FAULT_COUNT
} phx_http_fault;

int phx_http_fault_status(phx_http_fault fault);
const char *phx_http_fault_code(phx_http_fault fault);
const char *phx_http_fault_text(phx_http_fault fault);

#endif
