/* tests/emu/fibre.hpp - switching between stacks. Owns: nothing but the saved position. x86-64 switches by
 * hand, because swapcontext makes a system call each time and a shuffle switches 32 times; other machines use
 * ucontext. */
#ifndef PHX_TESTS_EMU_FIBRE_HPP
#define PHX_TESTS_EMU_FIBRE_HPP

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)
struct fibre {
    void *stack_pointer = nullptr;
};
#else
#include <ucontext.h>
struct fibre {
    ucontext_t context;
};
#endif

/* entry must not return: it switches away for good. */
void fibre_make(fibre *f, void *stack, size_t bytes, void (*entry)());
void fibre_switch(fibre *from, fibre *to);

#endif
