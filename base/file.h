/* base/file.h - whole small files, read and written with limits and errors that name the path. */
#ifndef PHX_BASE_FILE_H
#define PHX_BASE_FILE_H

#include "base/buf.h"
#include "base/status.h"

/* Appends the whole file to buf; fails with PHX_ERR_TOO_LONG past the buffer's ceiling. */
phx_code phx_file_read(const char *path, phx_buf *buf, phx_error *err);

/* Writes a temporary beside the file, syncs and renames, so that half a file is never seen. Of a link, the
 * file that it points to is replaced; a pipe, terminal or device is written into. mode e.g. 0644. */
phx_code phx_file_write(const char *path, phx_bytes content, unsigned mode, phx_error *err);
phx_code phx_file_write_parts(const char *path, const phx_bytes *parts, size_t n_parts, unsigned mode,
                              phx_error *err);

bool phx_file_exists(const char *path);

/* Whether a file of this path could be written: the path itself where it exists, else its folder. */
bool phx_file_writable(const char *path);

#endif
