// A bare Xtensa core with register windows: vectors, the way to main(), setjmp, what QEMU's
// simulation calls want. Window handlers and their save areas: Xtensa ISA reference, section 4.7.

    .section .vectors, "ax"

vectors:
    .org 0x000                      // overflow of a frame that called by call4
    s32e    a0, a5, -16
    s32e    a1, a5, -12
    s32e    a2, a5, -8
    s32e    a3, a5, -4
    rfwo
    .org 0x040
underflow4:
    l32e    a0, a5, -16
    l32e    a1, a5, -12
    l32e    a2, a5, -8
    l32e    a3, a5, -4
    rfwu
    .org 0x080
    s32e    a0, a9, -16
    l32e    a0, a1, -12
    s32e    a1, a9, -12
    s32e    a2, a9, -8
    s32e    a3, a9, -4
    s32e    a4, a0, -32
    s32e    a5, a0, -28
    s32e    a6, a0, -24
    s32e    a7, a0, -20
    rfwo
    .org 0x0c0
underflow8:
    l32e    a0, a9, -16
    l32e    a1, a9, -12
    l32e    a2, a9, -8
    l32e    a7, a1, -12
    l32e    a3, a9, -4
    l32e    a4, a7, -32
    l32e    a5, a7, -28
    l32e    a6, a7, -24
    l32e    a7, a7, -20
    rfwu
    .org 0x100
    s32e    a0, a13, -16
    l32e    a0, a1, -12
    s32e    a1, a13, -12
    s32e    a2, a13, -8
    s32e    a3, a13, -4
    s32e    a4, a0, -48
    s32e    a5, a0, -44
    s32e    a6, a0, -40
    s32e    a7, a0, -36
    s32e    a8, a0, -32
    s32e    a9, a0, -28
    s32e    a10, a0, -24
    s32e    a11, a0, -20
    rfwo
    .org 0x140
underflow12:
    l32e    a0, a13, -16
    l32e    a1, a13, -12
    l32e    a2, a13, -8
    l32e    a11, a1, -12
    l32e    a3, a13, -4
    l32e    a4, a11, -48
    l32e    a5, a11, -44
    l32e    a6, a11, -40
    l32e    a7, a11, -36
    l32e    a8, a11, -32
    l32e    a9, a11, -28
    l32e    a10, a11, -24
    l32e    a11, a11, -20
    rfwu
    .org 0x180                      // movsp, where the caller's registers are on the stack: fetched first
exception:
    wsr     a0, excsave1
    rsr     a0, exccause
    beqi    a0, 5, 1f
    j       fault
1:  rsr     a0, windowbase
    rotw    -1                      // a0 is a4 now
    rsr     a2, ps
    extui   a3, a2, 8, 4            // the window to come back to: this one
    xor     a3, a3, a4
    slli    a3, a3, 8
    xor     a2, a2, a3
    wsr     a2, ps
    rsr     a4, excsave1
    rsync
    bbsi    a4, 31, 2f
    j       underflow4
2:  rotw    -1
    bbsi    a8, 30, 3f
    j       underflow8
3:  rotw    -1
    j       underflow12
    .org 0x300                      // a fault in the kernel's mode, in the user's, a double one
    j       exception
    .org 0x340
    j       exception
    .org 0x3c0
    j       fault

    .text
    .literal top, stack_top
    .literal ps_start, 0x4000f
    .literal at_vectors, vectors
    .global _start
_start:
    movi    a2, 0
    wsr     a2, windowbase
    rsync
    movi    a2, 1
    wsr     a2, windowstart
    rsync
    movi    a0, 0
    l32r    a2, at_vectors
    wsr     a2, vecbase
    l32r    a1, top                 // what the first frame's registers go to lies above
    addi    a2, a1, 32
    addi    a3, a1, -12
    s32i    a2, a3, 0
    l32r    a2, ps_start            // windows on, no interrupts
    wsr     a2, ps
    rsync
    call8   begin

fault:                              // its cause to the console; there is no way back
    movi    a0, 0
    rsr     a6, exccause
    rsr     a7, epc1
    movi    a2, 0
    wsr     a2, windowbase
    rsync
    movi    a2, 1
    wsr     a2, windowstart
    rsync
    l32r    a1, top
    l32r    a2, ps_start
    wsr     a2, ps
    rsync
    rsr     a10, exccause
    rsr     a11, epc1
    rsr     a12, excvaddr
    call8   faulted

// void spill_windows(void): every caller's registers are in its frame on the stack afterwards.
    .global spill_windows
    .align 4
spill_windows:
    entry   a1, 32
    movi    a10, 12
    call8   deeper
    retw
    .align 4
deeper:
    entry   a1, 32
    beqz    a2, 1f
    addi    a10, a2, -1
    call8   deeper
1:  retw

// int setjmp(jmp_buf): the caller's a0 to a7, the way back, its own stack. a4 is the fifth, as
// MicroPython's native code wants it.
    .global setjmp
    .align 4
setjmp:
    entry   a1, 32
    call8   spill_windows
    addi    a3, a1, -16
    l32i    a4, a3, 0
    s32i    a4, a2, 0
    l32i    a5, a3, 4               // its stack
    s32i    a5, a2, 4
    l32i    a4, a3, 8
    s32i    a4, a2, 8
    l32i    a4, a3, 12
    s32i    a4, a2, 12
    addi    a5, a5, -16
    l32i    a5, a5, 4               // the stack of who called it: a4 to a7 lie below
    addi    a5, a5, -32
    l32i    a4, a5, 0
    s32i    a4, a2, 16
    l32i    a4, a5, 4
    s32i    a4, a2, 20
    l32i    a4, a5, 8
    s32i    a4, a2, 24
    l32i    a4, a5, 12
    s32i    a4, a2, 28
    s32i    a0, a2, 32
    s32i    a1, a2, 36
    movi    a2, 0
    retw

// void longjmp(jmp_buf, int)
    .global longjmp
    .align 4
longjmp:
    entry   a1, 32
    call8   spill_windows           // what is in registers goes to its place before that is changed
    rsr     a4, windowbase
    movi    a5, 1
    ssl     a4
    sll     a5, a5
    wsr     a5, windowstart         // nobody but this frame
    rsync
    l32i    a1, a2, 36
    l32i    a0, a2, 32
    addi    a6, a1, -16
    l32i    a4, a2, 0
    s32i    a4, a6, 0
    l32i    a5, a2, 4
    s32i    a5, a6, 4
    l32i    a4, a2, 8
    s32i    a4, a6, 8
    l32i    a4, a2, 12
    s32i    a4, a6, 12
    addi    a5, a5, -16
    l32i    a5, a5, 4
    addi    a5, a5, -32
    l32i    a4, a2, 16
    s32i    a4, a5, 0
    l32i    a4, a2, 20
    s32i    a4, a5, 4
    l32i    a4, a2, 24
    s32i    a4, a5, 8
    l32i    a4, a2, 28
    s32i    a4, a5, 12
    mov     a2, a3
    retw

// int simcall(int number, int, int, int)
    .global simcall
    .align 4
simcall:
    entry   a1, 32
    .byte   0x00, 0x51, 0x00
    retw

    .section .reset, "ax"
    j       1f
    .align  4
at_start:
    .long   _start
1:  l32r    a2, at_start
    jx      a2
