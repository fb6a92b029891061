/* coordinator/text/tokenizer_cut.h - where Kimi's own tokenizer program cuts a long text before it encodes.
 * Owns: the two limits of that program and its walk. Merges never cross a cut, so ids depend on it.
 * Not here: cutting into words (scanner.h). */
#ifndef PHX_COORDINATOR_TEXT_TOKENIZER_CUT_H
#define PHX_COORDINATOR_TEXT_TOKENIZER_CUT_H

#include "base/str.h"

#define PHX_TEXT_CUT_CHARS 400000u /* a part has at most as many characters, */
#define PHX_TEXT_CUT_RUN   25000u  /* and no longer run of only white space or only other characters */

/* Start with {0}. */
typedef struct phx_text_cut {
    size_t at;      /* first byte of the part to come */
    size_t n_chars; /* since the last cut of the first kind */
} phx_text_cut;

/* Moves cut->at behind the part that starts there. text: valid UTF-8, more of it than cut->at. */
void phx_text_cut_next(phx_str text, phx_text_cut *cut);

#endif
