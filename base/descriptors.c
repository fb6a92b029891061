/* base/descriptors.c - the limit of open files: raised, or refused early with the remedy. */
#include "base/descriptors.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>

phx_code phx_descriptors_raise(phx_error *err)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return PHX_FAIL(err, PHX_ERR_IO, "the limit of open files: %s", strerror(errno));
    const rlim_t wish = limit.rlim_max < PHX_DESCRIPTORS_WISH ? limit.rlim_max : PHX_DESCRIPTORS_WISH;
    if (limit.rlim_cur < wish) {
        const rlim_t before = limit.rlim_cur;
        limit.rlim_cur = wish;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
            limit.rlim_cur = before; /* may still be enough */
    }
    if (limit.rlim_cur < PHX_DESCRIPTORS_MIN)
        return PHX_FAIL(err, PHX_ERR_IO,
                        "only %llu files may be open at once, at least %u are needed: raise the hard limit "
                        "(ulimit -Hn, or LimitNOFILE of the service)",
                        (unsigned long long)limit.rlim_cur, PHX_DESCRIPTORS_MIN);
    return PHX_OK;
}
