# tests/tidy/words.awk - reads lex.awk's output: calls that are banned, and macros in #if that nobody defines.
# The variable `defined` lists the names that build files define. Prints findings as sizes.awk does.
BEGIN {
    FS = "\t"
    n = split("strcpy strcat sprintf vsprintf strtok atoi atol atof gets system popen alloca", names, " ")
    for (i = 1; i <= n; i++)
        where[names[i]] = "^$"
    n = split("malloc calloc realloc free aligned_alloc posix_memalign strdup strndup", names, " ")
    for (i = 1; i <= n; i++)
        where[names[i]] = "^base/alloc\\.c$"
    where["cudaMalloc"] = "^kernels/cuda/|^tests/emu/runtime\\." # the latter is its implementation
    # Only a program's own beginning reads the environment; libraries are told.
    where["getenv"] = "(^|/)main\\.c$|^tests/|^base/paths\\.c$"
    where["secure_getenv"] = where["getenv"]
    n = split(defined, names, " ")
    for (i = 1; i <= n; i++)
        known[names[i]] = 1
}
function finding(rule, place, value, text)
{
    print rule "\t" place "\t" value "\t" text
}
# What the compiler and the C library define themselves.
function is_foreign(name)
{
    return name ~ /^__/ || name ~ /^(defined|MAP_|F_|O_|CLOCK_|SYS_|ZMQ_|MPI_|NDEBUG)/
}
{
    code = $4
    rest = code
    while (match(rest, /[A-Za-z_][A-Za-z_0-9]*[ ]*\(/)) {
        name = substr(rest, RSTART, RLENGTH - 1)
        sub(/ +$/, "", name)
        before = RSTART > 1 ? substr(rest, RSTART - 1, 1) : ""
        if ((name in where) && before != "." && before != ">" && $1 !~ where[name])
            finding("banned", $1 ":" name, 1, "line " $2 ": " name "() is banned here")
        rest = substr(rest, RSTART + RLENGTH)
    }
}
code ~ /^[ \t]*#[ \t]*define[ \t]/ {
    name = code
    sub(/^[ \t]*#[ \t]*define[ \t]+/, "", name)
    sub(/[^A-Za-z_0-9].*/, "", name)
    known[name] = 1
}
code ~ /^[ \t]*#[ \t]*(if|ifdef|ifndef|elif)([ \t]|$)/ {
    rest = code
    sub(/^[ \t]*#[ \t]*(ifdef|ifndef|if|elif)/, "", rest)
    while (match(rest, /[A-Za-z_][A-Za-z_0-9]*/)) {
        name = substr(rest, RSTART, RLENGTH)
        if (!is_foreign(name) && !(name in asked))
            asked[name] = $1 "\t" $2
        rest = substr(rest, RSTART + RLENGTH)
    }
}
END {
    for (name in asked)
        if (!(name in known)) {
            split(asked[name], at, "\t")
            finding("macro", at[1] ":" name, 1, "line " at[2] ": nothing defines " name)
        }
}
