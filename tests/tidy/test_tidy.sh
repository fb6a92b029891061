#!/bin/sh
# tests/tidy/test_tidy.sh - rules about the source that a machine can check; README.md lists them.
# usage: tests/tidy/test_tidy.sh [--findings]     --findings: print all, also those in the ratchet, and stop
# Environment: PHX_SOURCE (this tree), PHX_BUILD (a build of it, for compile_commands.json and generated headers).
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
cd "${PHX_SOURCE:-$here/../..}" || exit 1
build=${PHX_BUILD:-build}
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
tab=$(printf '\t')
folders="base model proto kernels worker coordinator client launch tests"

finding() { # RULE PLACE VALUE TEXT
    printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" >>"$tmp/findings"
}

find $folders -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cpp' -o -name '*.hpp' | sort >"$tmp/sources"
find . \( -name 'build*' -o -name .git \) -prune -o \
    \( -name '*.[ch]' -o -name '*.cu*' -o -name '*.[ch]pp' -o -name '*.md' -o -name '*.sh' -o -name '*.awk' -o -name '*.py' -o -name '*.txt' -o -name '*.list' \
    -o -name '*.proto' -o -name '*.cmake' -o -name '*.yaml' -o -path './launch/*' -o -path './.ci/*' \) -type f -print |
    sed 's,^\./,,' | grep -v -e '^tests/data/' -e '^launch/demo/.*\(json\|safetensors\)$' -e '^tests/tidy/' |
    sort >"$tmp/texts"

xargs awk -f "$here/lex.awk" <"$tmp/sources" >"$tmp/code" || exit 1
defined=$(find . -name 'build*' -prune -o \( -name CMakeLists.txt -o -name '*.cmake' \) -print |
    xargs grep -oh 'PHX_[A-Z_0-9]*' | sort -u | tr '\n' ' ')
{
    awk -f "$here/includes.awk" "$tmp/code"
    awk -f "$here/sizes.awk" "$tmp/code"
    awk -v defined="$defined" -f "$here/words.awk" "$tmp/code"
} >"$tmp/findings" || exit 1

# Notes to oneself, and words that belong to where a line was written instead of to the program.
xargs grep -nE '(^|[^A-Za-z])(TODO|FIXME|XXX|HACK)([^A-Za-z]|$)' <"$tmp/texts" /dev/null |
    while IFS=: read -r file line _; do finding todo "$file:$line" 1 "finish it or say what is missing"; done
xargs grep -nE '/work/|/root/|/home/[a-z]|[Hh]elpers?[^_a-z]|(this|my|our|earlier|last) session' <"$tmp/texts" /dev/null |
    while IFS=: read -r file line _; do
        finding word "$file:$line" 1 "names a machine's folder, a session or a helper"
    done
grep -E '(^|/)(utils?|common|misc|helpers?)(\.[ch]|/)' "$tmp/sources" |
    while read -r file; do finding name "$file" 1 "a file is named after what it owns"; done

# A header comment opens each file.
while read -r file; do
    head -c 2 "$file" | grep -q '^/\*' || finding opening "$file" 1 "the first line says what the file owns"
done <"$tmp/sources"

# Every source is built.
if [ -e "$build/compile_commands.json" ]; then
    sed -n 's,.*"file": *"'"$PWD"'/\([^"]*\)".*,\1,p' "$build/compile_commands.json" | sort -u >"$tmp/built"
    grep '\.c$' "$tmp/sources" | comm -23 - "$tmp/built" |
        while read -r file; do finding unbuilt "$file" 1 "no CMakeLists.txt lists it"; done
else
    echo "note: no $build/compile_commands.json, so whether every source is built was not checked"
fi

# A README in each folder with sources, or a line about the folder in its parent's.
for folder in $(sed 's,/[^/]*$,,' "$tmp/sources" | sort -u) launch; do
    if [ ! -e "$folder/README.md" ]; then
        grep -q "$(basename "$folder")/" "$(dirname "$folder")/README.md" 2>/dev/null ||
            finding readme "$folder" 1 "no README.md, and the one above does not mention it"
    elif [ "$(wc -l <"$folder/README.md")" -gt 60 ]; then
        finding readme "$folder" "$(wc -l <"$folder/README.md")" "a README.md has at most 60 lines"
    fi
done

# Each header compiles alone. Sources that are included several times with other macros are not headers.
cflags="-std=c17 -D_GNU_SOURCE -fsyntax-only -Wall -Wextra -Werror -I. -I$build/generated"
cflags="$cflags $(pkg-config --cflags libevent jansson libzmq libprotobuf-c libsodium yaml-0.1 cmocka 2>/dev/null)"
headers_of_level='^kernels/cpu/'
grep '\.h$' "$tmp/sources" | grep -v "$headers_of_level" | while read -r header; do
    base=$(printf '%s' "$header" | tr '/.' '__')
    printf '#include <stdarg.h>\n#include <stddef.h>\n#include <stdint.h>\n#include <setjmp.h>\n' >"$tmp/$base.c"
    case "$header" in tests/*) ;; *) : >"$tmp/$base.c" ;; esac
    printf '#include "%s"\nextern int phx_tidy;\n' "$header" >>"$tmp/$base.c"
    printf '%s %s\n' "$tmp/$base.c" "$header"
done >"$tmp/headers"
xargs -P 2 -n 2 sh -c '${CC:-cc} '"$cflags"' "$0" 2>"$0.log" || echo "$1" >>"'"$tmp"'/broken"' <"$tmp/headers"
[ -e "$tmp/broken" ] && while read -r header; do
    finding header "$header" 1 "does not compile alone"
    head -n 3 "$tmp/$(printf '%s' "$header" | tr '/.' '__').c.log"
done <"$tmp/broken"

if command -v clang-format >/dev/null; then
    xargs -P 2 -n 16 clang-format --dry-run <"$tmp/sources" 2>&1 |
        sed -n 's/^\([^:]*\):[0-9]*:[0-9]*: warning:.*/\1/p' | sort -u |
        while read -r file; do finding format "$file" 1 "run clang-format -i"; done
else
    echo "note: no clang-format here, so the format was not checked"
fi

sort -o "$tmp/findings" "$tmp/findings"
if [ "${1-}" = --findings ]; then
    cat "$tmp/findings"
    exit 0
fi
awk -f "$here/ratchet.awk" "$here/ratchet" "$tmp/findings"
