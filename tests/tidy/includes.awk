# tests/tidy/includes.awk - reads lex.awk's output: who may include whom (DESIGN 4), the homes of third-party headers,
# includes per header. Prints findings: rule <tab> place <tab> value <tab> what is wrong.
BEGIN {
    FS = "\t"
    # A folder may include itself and these, each a prefix.
    may["base"] = ""
    may["model"] = "base/"
    may["proto"] = "model/ base/"
    may["kernels"] = "model/dtype.h base/"
    may["worker"] = "kernels/ proto/ model/ base/"
    may["coordinator"] = "proto/ model/ base/"
    may["client"] = "proto/ model/ base/"
    # A third-party header (prefix) and its homes; tests may use cmocka and, where named, more.
    home["zmq.h"] = "proto/ tests/proto/"
    home["protobuf-c/"] = "proto/ tests/proto/"
    home["proto/control.pb-c.h"] = "proto/ tests/proto/"
    home["mpi.h"] = "worker/comm/comm_mpi.c worker/main.c tests/comm/mpi_start.c"
    home["nccl.h"] = "tests/comm/test_nccl_abi.c"
    home["cuda"] = "kernels/cuda/"
    home["event2/"] = "coordinator/http/ coordinator/loop.c"
    home["jansson.h"] = "base/"
    home["yaml.h"] = "base/"
    home["sodium.h"] = "base/hash.c"
    home["immintrin.h"] = "kernels/cpu/"
    home["x86intrin.h"] = "kernels/cpu/"
    home["hwloc"] = "base/ worker/"
    home["utf8proc.h"] = "coordinator/text/"
    home["cmocka.h"] = "tests/"
}
function starts_with_one_of(text, prefixes,   n, parts, i)
{
    n = split(prefixes, parts, " ")
    for (i = 1; i <= n; i++)
        if (index(text, parts[i]) == 1)
            return 1
    return 0
}
function finding(rule, place, value, text)
{
    print rule "\t" place "\t" value "\t" text
}
$4 ~ /^[ \t]*#[ \t]*include[ \t]*[<"]/ {
    name = $4
    sub(/^[^<"]*[<"]/, "", name)
    sub(/[>"].*$/, "", name)
    folder = $1
    sub(/\/.*/, "", folder)
    ours = $4 ~ /"/
    if ($1 ~ /\.(h|hpp|cuh)$/)
        n_includes[$1]++
    for (header in home)
        if (index(name, header) == 1 && !starts_with_one_of($1, home[header]))
            finding("home", $1 ":" name, 1, "line " $2 ": " name " may be included only in " home[header])
    if (!ours)
        next
    if (name !~ /\//)
        finding("include", $1 ":" name, 1, "line " $2 ": give our headers with their folder")
    else if (folder != "tests" && index(name, folder "/") != 1 && !starts_with_one_of(name, may[folder]))
        finding("include", $1 ":" name, 1, "line " $2 ": " folder "/ may not include " name)
}
END {
    for (header in n_includes)
        if (n_includes[header] > 8)
            finding("includes", header, n_includes[header], "more than 8 includes in one header")
}
