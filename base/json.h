/* base/json.h - bounded JSON reading (over jansson) and writing.
 * Owns: the only include of jansson.h, the depth and size limits, the writer's escaping.
 * A phx_json node is borrowed from its root; only roots are freed. Objects keep the order of the text. */
#ifndef PHX_BASE_JSON_H
#define PHX_BASE_JSON_H

#include "base/buf.h"
#include "base/limits.h"
#include "base/status.h"
#include "base/str.h"

typedef struct phx_json phx_json;

typedef enum phx_json_kind {
    PHX_JSON_NULL,
    PHX_JSON_BOOL,
    PHX_JSON_INT,
    PHX_JSON_REAL,
    PHX_JSON_STRING,
    PHX_JSON_ARRAY,
    PHX_JSON_OBJECT
} phx_json_kind;

/* Checked by a scan without recursion before the parser sees the text. */
typedef struct phx_json_limits {
    size_t n_bytes_max;
    uint32_t depth_max;
    size_t n_nodes_max; /* values and keys */
    size_t n_keys_max;  /* of one object */
} phx_json_limits;

#define PHX_JSON_LIMITS_REQUEST \
    ((phx_json_limits){PHX_REQUEST_BYTES_MAX, PHX_JSON_DEPTH_MAX, PHX_JSON_NODES_MAX, PHX_JSON_KEYS_MAX})
#define PHX_JSON_LIMITS_FILE ((phx_json_limits){256u << 20, PHX_JSON_DEPTH_MAX, 20000000, 20000000})
#define PHX_JSON_DEPTH_ANY   1024u /* no limits may ask for more */

/* Rejects trailing text, duplicate keys, invalid UTF-8, NUL in strings. Numbers may be of any size, see
 * phx_json_as_literal. Errors name line and column. Destroy with phx_json_destroy. */
phx_code phx_json_parse(phx_bytes text, phx_json_limits limits, phx_json **ret_root, phx_error *err);

/* What a model writes as arguments of a call, read as Python's json.loads does: a key's last value counts, at
 * its first place, and strings may hold NUL. Half of a surrogate pair becomes U+FFFD. Still rejected: NUL in
 * a key. */
phx_code phx_json_parse_loose(phx_bytes text, phx_json_limits limits, phx_json **ret_root, phx_error *err);

/* Reads and parses a whole file; errors name the path. */
phx_code phx_json_parse_file(const char *path, phx_json_limits limits, phx_json **ret_root, phx_error *err);
void phx_json_destroy(phx_json *root); /* accepts NULL */

phx_json_kind phx_json_kind_of(const phx_json *node);
const char *phx_json_kind_name(const phx_json *node); /* "string", ...; "missing" for NULL */
bool phx_json_is_null(const phx_json *node);          /* missing, too */

/* Member by name or NULL (also when node is NULL or no object). */
const phx_json *phx_json_get(const phx_json *node, const char *key);
size_t phx_json_count(const phx_json *node); /* of an array or object, else 0 */
const phx_json *phx_json_at(const phx_json *array, size_t idx);

/* Members in the order of the text: for (it = phx_json_first(o); it.value; it = phx_json_next(o, it)). */
typedef struct phx_json_member {
    phx_str key;
    const phx_json *value; /* NULL at the end */
    void *at;
} phx_json_member;
phx_json_member phx_json_first(const phx_json *object);
phx_json_member phx_json_next(const phx_json *object, phx_json_member it);

/* False (output untouched) when the node is NULL or of another kind. */
bool phx_json_as_str(const phx_json *node, phx_str *ret_value);
bool phx_json_as_bool(const phx_json *node, bool *ret_value);
bool phx_json_as_i64(const phx_json *node, int64_t *ret_value);
bool phx_json_as_u64(const phx_json *node, uint64_t *ret_value);
/* INT, or REAL without a fraction: some write 32 as 32.0. */
bool phx_json_as_whole(const phx_json *node, int64_t *ret_value);
bool phx_json_as_f64(const phx_json *node, double *ret_value); /* INT or REAL; past double: an infinity */

/* Of an INT past int64_t or a REAL past double: the number as written, terminated. Of other nodes false. */
bool phx_json_as_literal(const phx_json *node, phx_str *ret_literal);

/* Writing: commas and colons are the writer's business. Numbers in the shortest form that reads back equal.
 */
typedef struct phx_json_writer {
    phx_buf *buf;
    uint64_t
        has_item[2]; /* bit d: level d already holds an item; a parsed tree of depth 64 fits inside ours */
    uint32_t depth;
    bool after_key;
} phx_json_writer;

void phx_json_writer_init(phx_json_writer *w, phx_buf *buf);
void phx_json_begin_object(phx_json_writer *w);
void phx_json_end_object(phx_json_writer *w);
void phx_json_begin_array(phx_json_writer *w);
void phx_json_end_array(phx_json_writer *w);
void phx_json_key(phx_json_writer *w, const char *key);
void phx_json_key_str(phx_json_writer *w, phx_str key);
void phx_json_str(phx_json_writer *w, phx_str value); /* invalid UTF-8 becomes U+FFFD */
void phx_json_text(phx_json_writer *w, const char *value);
void phx_json_i64(phx_json_writer *w, int64_t value);
void phx_json_u64(phx_json_writer *w, uint64_t value);
void phx_json_f64(phx_json_writer *w, double value); /* not finite: null */
void phx_json_bool(phx_json_writer *w, bool value);
void phx_json_null(phx_json_writer *w);
void phx_json_raw(phx_json_writer *w, phx_str json);          /* already JSON */
void phx_json_node(phx_json_writer *w, const phx_json *node); /* a copy of a parsed node, compact */

#endif
