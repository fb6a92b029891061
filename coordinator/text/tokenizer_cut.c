/* coordinator/text/tokenizer_cut.c - parts of a long text; see tokenizer_cut.h. */
#include "coordinator/text/tokenizer_cut.h"
#include "coordinator/text/unicode.h"

/* Python's str.isspace: White_Space and the four information separators. */
static bool is_space(uint32_t c)
{
    return (phx_char_flags(c) & PHX_CHAR_SPACE) || (c >= 0x1C && c <= 0x1F);
}

void phx_text_cut_next(phx_str text, phx_text_cut *cut)
{
    size_t n_run = 0;
    bool run_is_space = false;
    if (text.n - cut->at <= PHX_TEXT_CUT_RUN && cut->n_chars == 0) {
        cut->at = text.n;
        return;
    }
    while (cut->at < text.n) {
        uint32_t c = 0;
        const size_t n = phx_utf8_decode(text.ptr + cut->at, text.n - cut->at, &c);
        if (cut->n_chars == PHX_TEXT_CUT_CHARS) {
            cut->n_chars = 0;
            return;
        }
        const bool now_space = is_space(c);
        n_run = n_run > 0 && now_space == run_is_space ? n_run + 1 : 1;
        run_is_space = now_space;
        if (n_run > PHX_TEXT_CUT_RUN)
            return;
        cut->at += n;
        cut->n_chars++;
    }
}
