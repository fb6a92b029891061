/* coordinator/text/jinja_value.h - the values that a chat template works with, and their memory.
 * Owns: the pool of one rendering, kinds of values, truth, equality, text of a value; which bytes of a text
 * came from a user. Not here: the template (jinja_tree.h), what can be done with values (jinja_filter.c and
 * others). */
#ifndef PHX_COORDINATOR_TEXT_JINJA_VALUE_H
#define PHX_COORDINATOR_TEXT_JINJA_VALUE_H

#include "base/buf.h"
#include "base/json.h"

/* Memory that is given back all at once. A failed take latches the code, gives NULL, and so do all later. */
typedef struct phx_jpool {
    struct phx_jchunk *chunks;
    char *at;
    char *end;
    size_t n_bytes; /* taken so far */
    size_t n_max;
    phx_code code;
} phx_jpool;

void phx_jpool_init(phx_jpool *pool, size_t n_max);
void phx_jpool_done(phx_jpool *pool);
void *phx_jpool_take(phx_jpool *pool, size_t n, size_t bytes); /* zeroed, aligned to 16 */

typedef enum phx_jv_kind {
    PHX_JV_UNDEFINED, /* s: its name, for errors */
    PHX_JV_NONE,
    PHX_JV_BOOL,
    PHX_JV_INT,
    PHX_JV_BIG_INT, /* past 64 bits. s: its digits as written, terminated */
    PHX_JV_FLOAT,
    PHX_JV_STR,
    PHX_JV_LIST,
    PHX_JV_DICT,
    PHX_JV_NAMESPACE, /* a dictionary whose members can be set */
    PHX_JV_LOOP,
    PHX_JV_MACRO,
    PHX_JV_FUNCTION, /* i: which */
    PHX_JV_METHOD    /* of *method.self */
} phx_jv_kind;

/* A text and where its bytes came from. mask NULL: all from one side. */
typedef struct phx_jtext {
    const char *ptr;
    const uint8_t *mask; /* [n], 1: data, of a user or a tool; 0: the template's own */
    size_t n;
} phx_jtext;

typedef struct phx_jlist phx_jlist;
typedef struct phx_jdict phx_jdict;
typedef struct phx_jloop phx_jloop;
typedef struct phx_jmacro phx_jmacro;
typedef struct phx_jmethod phx_jmethod;

typedef struct phx_jv {
    phx_jv_kind kind;
    bool is_data; /* a text without mask: all of it */
    union {
        int64_t i; /* also of a BOOL */
        double f;
        phx_jtext s;
        phx_jlist *list;
        phx_jdict *dict;
        const phx_jloop *loop;
        const phx_jmacro *macro;
        const phx_jmethod *method;
    } u;
} phx_jv;

struct phx_jlist {
    phx_jv *items; /* [n] */
    size_t n;
};

typedef struct phx_jmember {
    phx_jv key; /* a text */
    phx_jv value;
} phx_jmember;

struct phx_jdict {
    phx_jmember *members; /* [n], in the order of their coming */
    size_t n;
    size_t cap;
};

struct phx_jloop {
    const phx_jlist *list;
    size_t at;
};

struct phx_jmethod {
    phx_jv self;
    int which;
    phx_str name;
};

phx_jv phx_jv_undefined(phx_str name);
phx_jv phx_jv_none(void);
phx_jv phx_jv_bool(bool value);
phx_jv phx_jv_int(int64_t value);
phx_jv phx_jv_float(double value);
phx_jv phx_jv_str(phx_str text, bool is_data); /* borrowed */
phx_jv phx_jv_list(phx_jpool *pool, size_t n); /* of undefined items; UNDEFINED when the pool is out */
phx_jv phx_jv_dict(phx_jpool *pool, size_t n_cap);

/* Adds or replaces; key is borrowed. */
void phx_jv_set(phx_jpool *pool, phx_jv dict, phx_jv key, phx_jv value);
void phx_jv_put(phx_jpool *pool, phx_jv dict, const char *key, phx_jv value);
const phx_jv *phx_jv_get(phx_jv dict, phx_str key); /* NULL: no such member, or no dictionary */

/* A parsed JSON value; texts are borrowed and count as data. */
phx_jv phx_jv_of_json(phx_jpool *pool, const phx_json *node);

phx_str phx_jv_text(phx_jv text); /* of a STR, the bytes */
phx_jv phx_jv_slice(phx_jv text, size_t first, size_t end);
phx_jv phx_jv_concat(phx_jpool *pool, const phx_jv *texts, size_t n);

/* Appends a text with its origin. mask grows by as many bytes as text. */
void phx_jtext_write(phx_jv text, phx_buf *to, phx_buf *mask);

bool phx_jv_is_true(phx_jv value);
bool phx_jv_is_number(phx_jv value); /* with BOOL, as in Python */
double phx_jv_number(phx_jv value);
int phx_jv_order_whole(phx_jv a, phx_jv b); /* of numbers that are no FLOAT: < 0, 0, > 0 */
const char *phx_jv_kind_name(phx_jv value);

/* Counts work on n_bytes, for values that share parts and so are far larger than their memory; false: end. */
typedef struct phx_jtick {
    bool (*step)(void *user, uint32_t line, size_t n_bytes);
    void *user;
    uint32_t line;
} phx_jtick;

/* Python's ==. Values nested deeper than PHX_JV_DEPTH_MAX count as unequal, and so does what is left when
 * tick says to end. */
bool phx_jv_equal(const phx_jtick *tick, phx_jv a, phx_jv b, unsigned depth);
#define PHX_JV_DEPTH_MAX 100u

/* What looking past one member of a dictionary counts as, in bytes of text. */
#define PHX_JV_LOOKUP_BYTES 8u

/* str(value) of a text, number, truth value, none or undefined (empty); else false. */
bool phx_jv_to_text(phx_jpool *pool, phx_jv value, phx_jv *ret_text);

/* Characters of a text. */
size_t phx_jv_n_chars(phx_jv text);

/* json.dumps. indent < 0: on one line. */
typedef struct phx_jdump {
    phx_str item_separator;
    phx_str key_separator;
    int indent;
    bool ensure_ascii;
    bool sort_keys;
    phx_jtick tick;
} phx_jdump;

/* False: a value that JSON cannot hold, or nested too deeply, or tick says to end. The text counts as data.
 */
bool phx_jv_dump(phx_jpool *pool, phx_jv value, const phx_jdump *how, phx_jv *ret_text);

#endif
