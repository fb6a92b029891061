# launch/junit.awk - counts the tests of ctest's JUnit files. ctest's own summary counts skipped tests as passed, and a
# program that could not be started as not run. Only a test that ended with exit code 77 is skipped here;
# one that passed but says SKIP: of a part is named.
function attribute(name, line)
{
    if (!match(line, name "=\"[^\"]*\""))
        return ""
    return substr(line, RSTART + length(name) + 2, RLENGTH - length(name) - 3)
}
/<testcase / {
    test = attribute("name", $0)
    status = attribute("status", $0)
    why = ""
    skipped = 0
}
/<skipped / && attribute("message", $0) ~ /^SKIP_RETURN_CODE/ { skipped = 1 }
/SKIP: / && why == "" {
    why = substr($0, index($0, "SKIP: ") + 6)
    sub(/<\/system-out>.*/, "", why)
    gsub(/&lt;/, "<", why)
    gsub(/&gt;/, ">", why)
    gsub(/&quot;/, "\"", why)
    gsub(/&amp;/, "\\&", why)
}
/<\/testcase>/ {
    if (status == "run") {
        n_passed++
        if (why != "")
            print "passed in part: " test ": " why
    } else if (status == "disabled") {
        disabled = disabled "\n  " test
    } else if (skipped) {
        n_skipped++
        print "skipped: " test (why == "" ? "" : ": " why)
    } else {
        n_failed++
        print "failed: " test
    }
}
END {
    if (disabled != "")
        print "disabled, not counted:" disabled
    if (n_passed + n_failed + n_skipped == 0)
        print "no tests ran: that is an error"
    printf "%d passed, %d failed, %d skipped\n", n_passed, n_failed, n_skipped
    exit n_failed > 0 || n_passed + n_failed + n_skipped == 0
}
