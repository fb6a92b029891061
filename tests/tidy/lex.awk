# tests/tidy/lex.awk - C sources without comments and without the contents of strings, line by line:
#   path <tab> line number <tab> columns of the raw line <tab> code
# An include keeps its file name. Columns are characters, not bytes.
FNR == 1 { in_comment = 0 }
{
    raw = $0
    code = ""
    if (!in_comment && raw ~ /^[ \t]*#[ \t]*include/) {
        code = raw
        sub(/\/\*.*/, "", code)
    } else {
        n = length(raw)
        for (i = 1; i <= n; i++) {
            c = substr(raw, i, 1)
            two = substr(raw, i, 2)
            if (in_comment) {
                if (two == "*/") {
                    in_comment = 0
                    i++
                }
            } else if (two == "/*") {
                in_comment = 1
                i++
            } else if (two == "//") {
                break
            } else if (c == "\"" || c == "'") {
                for (i++; i <= n && substr(raw, i, 1) != c; i++)
                    if (substr(raw, i, 1) == "\\")
                        i++
                code = code c c
            } else {
                code = code c
            }
        }
    }
    sub(/[ \t]+$/, "", code)
    width = raw
    gsub(/[\200-\277]/, "", width)
    print FILENAME "\t" FNR "\t" length(width) "\t" code
}
