// host.read(path): a file of the machine that runs QEMU, as bytes; none for a directory, None
// where there is nothing. And the clock of the board.
#include "py/mphal.h"
#include "py/mpstate.h"
#include "py/runtime.h"
#include "host.h"

#define PIECE 4096
#define STACK 40000 // octets: that file system is in Python, so importing nests deeper than on boards

static mp_obj_t read_file(mp_obj_t path) {
    MP_STATE_THREAD(stack_limit) = STACK;
    int file = host_open(mp_obj_str_get_str(path));
    if (file < 0) {
        return mp_const_none;
    }
    vstr_t whole;
    vstr_init(&whole, PIECE);
    int got;
    do {
        char *to = vstr_add_len(&whole, PIECE);
        got = host_get(file, to, PIECE);
        vstr_cut_tail_bytes(&whole, PIECE - (got > 0 ? got : 0));
    } while (got > 0);
    host_close(file);
    return mp_obj_new_bytes_from_vstr(&whole);
}
static MP_DEFINE_CONST_FUN_OBJ_1(read_obj, read_file);

static const mp_rom_map_elem_t names[] = {
    { MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR_host) },
    { MP_ROM_QSTR(MP_QSTR_read), MP_ROM_PTR(&read_obj) },
};
static MP_DEFINE_CONST_DICT(globals, names);

const mp_obj_module_t host_module = {
    .base = { &mp_type_module },
    .globals = (mp_obj_dict_t *)&globals,
};
MP_REGISTER_MODULE(MP_QSTR_host, host_module);

mp_uint_t mp_hal_ticks_us(void) {
    return host_us();
}

mp_uint_t mp_hal_ticks_ms(void) {
    static uint32_t last, ms; // beyond where microseconds wrap
    uint32_t passed = (host_us() - last) / 1000;
    last += passed * 1000;
    ms += passed;
    return ms;
}

mp_uint_t mp_hal_ticks_cpu(void) {
    return host_us();
}

uint64_t mp_hal_time_ns(void) {
    return (uint64_t)mp_hal_ticks_ms() * 1000000;
}

void mp_hal_delay_us(mp_uint_t us) {
    mp_uint_t began = host_us();
    while (host_us() - began < us) {
        mp_event_handle_nowait();
    }
}

void mp_hal_delay_ms(mp_uint_t ms) {
    while (ms--) {
        mp_hal_delay_us(1000);
    }
}
