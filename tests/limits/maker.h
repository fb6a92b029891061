/* tests/limits/maker.h - texts of an exact size. */
#ifndef PHX_TESTS_LIMITS_MAKER_H
#define PHX_TESTS_LIMITS_MAKER_H

#include "base/buf.h"
#include "base/status.h"

void make_start(phx_buf *text, const char *head);
void make_fill(phx_buf *text, char c, size_t n);
/* "ITEM" n times with commas between; %zu in it is the number. */
void make_list(phx_buf *text, const char *before, size_t n, const char *behind);
phx_bytes make_bytes(const phx_buf *text);

/* Writes a file of a fresh folder under /tmp; the folder goes with make_remove. */
void make_folder(char *ret_path, size_t n_bytes);
void make_file(const char *dir, const char *name, const phx_buf *text);
void make_remove(const char *dir);
void make_demo(const char *name, phx_buf *ret_text); /* a file of launch/demo */

#endif
