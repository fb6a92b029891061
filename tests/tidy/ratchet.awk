# tests/tidy/ratchet.awk - compares findings with the recorded exceptions: nothing new, nothing larger.
# usage: awk -f ratchet.awk RATCHET FINDINGS
BEGIN { FS = "\t" }
FNR == NR {
    if ($0 !~ /^#/ && NF >= 3)
        recorded[$1 "\t" $2] = $3 + 0
    next
}
{
    key = $1 "\t" $2
    n++
    if (!(key in recorded)) {
        print $2 ": " $1 ": " $4 " (here " $3 ")"
        n_bad++
    } else if ($3 + 0 > recorded[key]) {
        print $2 ": " $1 ": grew from " recorded[key] " to " $3 "; " $4
        n_bad++
    } else if ($3 + 0 < recorded[key]) {
        print "note: " $2 ": " $1 " shrank to " $3 "; lower it in tests/tidy/ratchet"
    }
    seen[key] = 1
}
END {
    for (key in recorded)
        if (!(key in seen)) {
            split(key, part, "\t")
            print "note: " part[2] ": " part[1] " is mended; remove it from tests/tidy/ratchet"
        }
    printf "%d findings, %d of them recorded exceptions\n", n, n - n_bad
    exit n_bad > 0
}
