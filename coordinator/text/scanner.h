/* coordinator/text/scanner.h - cuts text into the pieces that byte-pair merging works on.
 * Owns: the table of known pre-tokenisers, recognised by the exact text of their regular expressions, and one
 * scanner written by hand for each.
 * Not here: a regex engine (an unknown pattern is refused), added tokens, merging. */
#ifndef PHX_COORDINATOR_TEXT_SCANNER_H
#define PHX_COORDINATOR_TEXT_SCANNER_H

#include "base/status.h"
#include "base/str.h"

#define PHX_SCANNER_PATTERNS_MAX 4u

/* Takes the pieces in order; their concatenation is the segment. A code other than PHX_OK ends the scan. */
typedef struct phx_piece_sink {
    phx_code (*put)(void *context, phx_str piece, phx_error *err);
    void *context;
} phx_piece_sink;

/* segment: valid UTF-8; its ends are real ends for look-ahead. Time is linear in its bytes. */
typedef phx_code phx_scan_fn(phx_str segment, const phx_piece_sink *sink, phx_error *err);

typedef struct phx_scanner {
    const char *name;
    const char *patterns[PHX_SCANNER_PATTERNS_MAX + 1]; /* of the Splits in order, NULL at the end */
    phx_scan_fn *scan;
} phx_scanner;

/* The scanner whose patterns equal these, text by text, or NULL. */
const phx_scanner *phx_scanner_find(const phx_str *patterns, size_t n_patterns);

/* By its own name, for vocabularies that bring no patterns; NULL: there is none. */
const phx_scanner *phx_scanner_named(const char *name);

/* True when some scanner has this pattern: the error names the first pattern that none has. */
bool phx_scanner_knows(phx_str pattern);

#endif
