/* base/status.h - result codes and the first cause of a failure.
 * Owns: phx_code, its scope and texts, phx_error, PHX_FAIL.
 * Not here: logging (base/log.h); libraries return errors, programs print them. */
#ifndef PHX_BASE_STATUS_H
#define PHX_BASE_STATUS_H

/* code, what is lost when it happens, what a person reads.
 * Scope decides the reaction: NONE nothing, REQUEST fails one request, RANK replaces a rank,
 * GROUP relaunches the group, PROCESS ends the program. */
#define PHX_CODES(X)                                  \
    X(PHX_OK, NONE, "ok")                             \
    X(PHX_ERR_INVALID, REQUEST, "invalid argument")   \
    X(PHX_ERR_UNSUPPORTED, REQUEST, "not supported")  \
    X(PHX_ERR_TOO_LONG, REQUEST, "limit exceeded")    \
    X(PHX_ERR_NOT_FOUND, REQUEST, "not found")        \
    X(PHX_ERR_CANCELLED, REQUEST, "cancelled")        \
    X(PHX_ERR_DEADLINE, REQUEST, "deadline exceeded") \
    X(PHX_ERR_BUSY, REQUEST, "queue is full")         \
    X(PHX_ERR_UNAVAILABLE, REQUEST, "not ready")      \
    X(PHX_ERR_DENIED, REQUEST, "not authorised")      \
    X(PHX_ERR_IO, PROCESS, "input/output error")      \
    X(PHX_ERR_CORRUPT, PROCESS, "malformed data")     \
    X(PHX_ERR_NOMEM, PROCESS, "out of memory")        \
    X(PHX_ERR_IN_USE, PROCESS, "address in use")      \
    X(PHX_ERR_MISMATCH, GROUP, "ranks disagree")      \
    X(PHX_ERR_COMM, GROUP, "collective failed")       \
    X(PHX_ERR_PEER_LOST, GROUP, "rank lost")          \
    X(PHX_ERR_NUMERIC, GROUP, "self-check failed")    \
    X(PHX_ERR_DEVICE, GROUP, "device failed")         \
    X(PHX_ERR_INTERNAL, GROUP, "internal error")

typedef enum phx_code {
#define X(code, scope, text) code,
    PHX_CODES(X)
#undef X
        PHX_CODE_COUNT
} phx_code;

typedef enum phx_scope {
    PHX_SCOPE_NONE,
    PHX_SCOPE_REQUEST,
    PHX_SCOPE_RANK,
    PHX_SCOPE_GROUP,
    PHX_SCOPE_PROCESS
} phx_scope;

/* The first cause, written once at the place that knows it. Start with {0}; owned by the caller. */
typedef struct phx_error {
    phx_code code;
    char place[72]; /* file:line of the check */
    char text[440]; /* names the thing, the value and, where there is one, the remedy */
} phx_error;

#define PHX_STR_(x) #x
#define PHX_STR(x)  PHX_STR_(x)
#define PHX_PLACE   __FILE__ ":" PHX_STR(__LINE__)

/* Records (unless err already holds an earlier cause, or is NULL) and returns code. Never jumps. */
#define PHX_FAIL(err, code, ...) phx_fail((err), (code), PHX_PLACE, __VA_ARGS__)

phx_code phx_fail(phx_error *err, phx_code code, const char *place, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

const char *phx_code_name(phx_code code); /* "PHX_ERR_IO" */
const char *phx_code_text(phx_code code); /* "input/output error" */
phx_scope phx_code_scope(phx_code code);

#endif
