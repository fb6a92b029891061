# tests/tidy/sizes.awk - reads lex.awk's output: lengths of files and functions, columns, nesting, `out:` and return.
# It leans on our format: a function's braces stand alone in the first column, a block's brace ends its line.
# Prints findings: rule <tab> place <tab> value <tab> what is wrong.
BEGIN {
    FS = "\t"
    FILE_LINES = 800
    FUNCTION_LINES = 100
    TEST_FUNCTION_LINES = 150
    DEVICE_FUNCTION_LINES = 250
    COLUMNS = 110
    NESTING = 4
}
function finding(rule, place, value, text)
{
    print rule "\t" place "\t" value "\t" text
}
# Tables are exempt: a file that is only data says so in its name.
function is_table(path)
{
    return path ~ /_table\.c$/
}
function end_of_file()
{
    if (path != "" && n_lines > FILE_LINES && !is_table(path))
        finding("file", path, n_lines, "a file has at most " FILE_LINES " lines")
}
function end_of_function(   limit)
{
    limit = path ~ /^tests\// ? TEST_FUNCTION_LINES : path ~ /\.cuh?$/ ? DEVICE_FUNCTION_LINES : FUNCTION_LINES
    if (line - first + 1 > limit)
        finding("function", path ":" name, line - first + 1, "a function has at most " limit " lines")
    if (deepest > NESTING)
        finding("nesting", path ":" name, deepest, "blocks nest at most " NESTING " deep")
    if (n_out > 1)
        finding("out", path ":" name, n_out, "one label out: in a function")
    if (n_out == 1 && n_returns > 1)
        finding("out", path ":" name, n_returns, "a function with out: has at most one return, its last line")
    in_function = 0
}
# The brackets of a line: a brace that ends it opens a block, others hold initialisers.
function braces(code,   i, c, rest)
{
    for (i = 1; i <= length(code); i++) {
        c = substr(code, i, 1)
        if (c == "{") {
            rest = substr(code, 1, i)
            kind[++depth] = i == length(code) && rest ~ /(\) |else |do |: |^[ \t]*)\{$/ ? 1 : 0
            level += kind[depth]
            if (level > deepest)
                deepest = level
        } else if (c == "}" && depth > 0) {
            level -= kind[depth--]
        }
    }
}
$1 != path {
    end_of_file()
    path = $1
    in_function = 0
    name = ""
}
{
    n_lines = line = $2 + 0
    code = $4
    if ($3 > COLUMNS && !is_table(path))
        finding("columns", path ":" line, $3, "a line has at most " COLUMNS " columns")
}
!in_function && code ~ /^[A-Za-z_].*\(/ && code !~ /;$/ {
    name = code
    sub(/\(.*/, "", name)
    sub(/.*[ *]/, "", name)
}
!in_function && code == "{" {
    in_function = 1
    first = line
    depth = level = deepest = n_out = n_returns = 0
    next
}
in_function && code == "}" {
    end_of_function()
    next
}
in_function {
    braces(code)
    if (code ~ /^[a-z_][a-z_0-9]*:/ && code !~ /^default:/) {
        if (code ~ /^out:/)
            n_out++
        else
            finding("out", path ":" name, 1, "line " line ": the only label is out:")
    }
    if (code ~ /(^|[^A-Za-z_0-9])return([^A-Za-z_0-9]|$)/)
        n_returns++
}
END { end_of_file() }
