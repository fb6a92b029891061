/* coordinator/text/tokenizer_added.h - finds added tokens in text.
 * Owns: a sorted list of contents and the leftmost-longest match over it.
 * Not here: what a match means, which parts of a text may match (tokenizer.c). */
#ifndef PHX_COORDINATOR_TEXT_TOKENIZER_ADDED_H
#define PHX_COORDINATOR_TEXT_TOKENIZER_ADDED_H

#include "base/status.h"
#include "base/str.h"

typedef struct phx_added_token {
    phx_str content; /* not empty; borrowed */
    uint32_t id;
} phx_added_token;

typedef struct phx_added_set {
    phx_added_token *tokens; /* [n], by content once sorted */
    uint32_t first[257];     /* tokens that begin with byte b: first[b] to first[b + 1] */
    size_t n;
    size_t n_max;
} phx_added_set;

/* Start with {0}. */
phx_code phx_added_reserve(phx_added_set *set, size_t n_max, phx_error *err);
void phx_added_done(phx_added_set *set);
void phx_added_put(phx_added_set *set, phx_added_token token); /* at most n_max times */

/* Once, after the last put. PHX_ERR_CORRUPT when two contents are equal. */
phx_code phx_added_sort(phx_added_set *set, phx_error *err);

/* The longest token that text begins with, or NULL. */
const phx_added_token *phx_added_match(const phx_added_set *set, phx_str text);

#endif
