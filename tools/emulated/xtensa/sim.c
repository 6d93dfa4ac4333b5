// Console, files, clock and end of a bare Xtensa core, by the simulation calls that QEMU answers.
#include "py/gc.h"
#include "py/mpstate.h"
#include "py/runtime.h"
#include "shared/runtime/gchelper.h"
#include "host.h"

#define EXIT 1
#define READ 3
#define WRITE 4
#define OPEN 5
#define CLOSE 6
#define MHZ 40 // at which QEMU's core counts

int simcall(int number, ...);
void spill_windows(void);
int main(int argc, char **argv);

void uart_init(void) {
}

int uart_rx_chr(void) {
    unsigned char octet;
    return simcall(READ, 0, &octet, 1) == 1 ? octet : -1;
}

void uart_tx_strn(const char *text, size_t len) {
    simcall(WRITE, 1, text, len);
}

int host_open(const char *path) {
    return simcall(OPEN, path, 0, 0);
}

int host_get(int file, void *to, unsigned n) {
    return simcall(READ, file, to, n);
}

void host_close(int file) {
    simcall(CLOSE, file, 0, 0);
}

unsigned host_us(void) {
    static uint32_t last, us;
    uint32_t now;
    __asm volatile ("rsr %0, ccount" : "=r" (now));
    uint32_t passed = (now - last) / MHZ;
    last += passed * MHZ;
    us += passed;
    return us;
}

void exit(int status) {
    for (;;) {
        simcall(EXIT, status);
    }
}

void abort(void) {
    exit(4);
}

void begin(void) { // from start.S
    main(0, 0);
    exit(0);
}

void faulted(unsigned cause, unsigned pc, unsigned address) { // likewise
    mp_printf(&mp_plat_print, "EXCEPTION %u at %x, address %x\n", cause, pc, address);
    exit(3);
}

void gc_helper_collect_regs_and_stack(void) {
    spill_windows();
    uintptr_t stack;
    __asm volatile ("mov %0, a1" : "=r" (stack));
    void **from = (void **)(stack - 16); // the registers of who called this lie below
    gc_collect_root(from, (void **)MP_STATE_THREAD(stack_top) - from);
}
