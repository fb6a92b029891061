/* tests/emu/fibre.cpp - the two ways to switch stacks. */
#include "fibre.hpp"

#if defined(__x86_64__)

/* The registers that a call preserves go to the old stack, and come from the new one. */
asm(R"(
    .text
    .globl phx_emu_switch
    .type phx_emu_switch, @function
phx_emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size phx_emu_switch, .-phx_emu_switch
)");
extern "C" void phx_emu_switch(void **save, void *restore);

void fibre_make(fibre *f, void *stack, size_t bytes, void (*entry)())
{
    const uintptr_t top = (reinterpret_cast<uintptr_t>(stack) + bytes) & ~static_cast<uintptr_t>(15);
    /* after ret the stack pointer is top - 8: as after a call */
    uint64_t *sp = reinterpret_cast<uint64_t *>(top - 16);
    *sp = reinterpret_cast<uintptr_t>(entry);
    for (int i = 0; i < 6; i++)
        *--sp = 0;
    f->stack_pointer = sp;
}

void fibre_switch(fibre *from, fibre *to)
{
    phx_emu_switch(&from->stack_pointer, to->stack_pointer);
}

#else

void fibre_make(fibre *f, void *stack, size_t bytes, void (*entry)())
{
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = stack;
    f->context.uc_stack.ss_size = bytes;
    f->context.uc_link = nullptr;
    makecontext(&f->context, entry, 0);
}

void fibre_switch(fibre *from, fibre *to)
{
    swapcontext(&from->context, &to->context);
}

#endif
