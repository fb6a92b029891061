/* base/descriptors.h - how many files and sockets the process may have open (RLIMIT_NOFILE).
 * Owns: what a program of ours needs of them. Not here: what HTTP connections leave free
 * (coordinator/http/limits.h). */
#ifndef PHX_BASE_DESCRIPTORS_H
#define PHX_BASE_DESCRIPTORS_H

#include "base/status.h"

#define PHX_DESCRIPTORS_MIN  256u   /* a coordinator of the largest group with its checkpoint, without HTTP */
#define PHX_DESCRIPTORS_WISH 65536u /* as many as the connections that may be configured */

/* For the start of a program that opens sockets: the messaging library ends the process when it gets no
 * descriptor. Raises the soft limit towards the hard one, up to the wish; never lowers it. PHX_ERR_IO with
 * the remedy when fewer than PHX_DESCRIPTORS_MIN are allowed even so. */
phx_code phx_descriptors_raise(phx_error *err);

#endif
