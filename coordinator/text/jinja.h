/* coordinator/text/jinja.h - chat templates: a subset of Jinja, read once and rendered for each prompt.
 * Owns: parsing a template with the settings that Hugging Face gives Jinja (trim_blocks, lstrip_blocks, loop
 * controls), rendering it within bounds of depth, steps and memory, and the origin of every byte of the
 * result. Not here: what a template is given (chat_template.c). What the subset holds stands in README.md;
 * any other construct is an error that names the line. */
#ifndef PHX_COORDINATOR_TEXT_JINJA_H
#define PHX_COORDINATOR_TEXT_JINJA_H

#include <stdatomic.h>

#include "base/limits.h"
#include "base/status.h"
#include "coordinator/text/jinja_value.h"

/* Immutable once made: any number of threads may use one. */
typedef struct phx_jinja phx_jinja;

/* text: valid UTF-8, else PHX_ERR_CORRUPT, as for a template that is not Jinja; PHX_ERR_UNSUPPORTED: beyond
 * the subset; PHX_ERR_TOO_LONG past a limit. Destroy with phx_jinja_destroy. */
phx_code phx_jinja_parse(phx_str text, phx_jinja **ret_template, phx_error *err);
void phx_jinja_destroy(phx_jinja *template); /* accepts NULL */

/* Is this word a name that the template uses? For switches that a template may or may not know. */
bool phx_jinja_mentions(const phx_jinja *template, const char *name);

/* Does the template itself go over the parts of a message's content? Then it takes them as a list; one that
 * does not knows texts only. Seen are loops over member `content` of anything, over a name that was set to
 * it, and over a macro's parameter of that name. */
bool phx_jinja_takes_parts(const phx_jinja *template);

/* The rendered text, and for each byte 1 when it came from the inputs' data, 0 when from the template. */
typedef struct phx_jinja_out {
    phx_buf text;
    phx_buf mask;
    uint64_t n_steps; /* that it took */
    bool over_bounds; /* it failed by a bound on its work, which is the template's fault */
} phx_jinja_out;

void phx_jinja_out_init(phx_jinja_out *out, size_t n_max);
void phx_jinja_out_done(phx_jinja_out *out);

/* What one rendering may use. */
/* nodes visited, and one for each 64 bytes that a text operation reads */
#define PHX_JINJA_STEPS_MAX  4000000u
#define PHX_JINJA_MEMORY_MAX (256u << 20) /* bytes of values */

typedef struct phx_jinja_inputs {
    phx_jpool *pool;
    phx_jv names;            /* a dictionary of pool: the template's global names */
    int64_t now_s;           /* what strftime_now tells, in UTC: seconds since 1970 */
    const atomic_bool *stop; /* set by another thread: end soon, with PHX_ERR_CANCELLED; NULL: nobody will */
} phx_jinja_inputs;

/* PHX_ERR_INVALID: the template refused (raise_exception) or does not fit the inputs; PHX_ERR_TOO_LONG: past
 * a bound; PHX_ERR_UNSUPPORTED: an unknown method; PHX_ERR_CANCELLED: stop. The texts of out are complete
 * only after PHX_OK. */
phx_code phx_jinja_render(const phx_jinja *template, const phx_jinja_inputs *inputs, phx_jinja_out *out,
                          phx_error *err);

#endif
