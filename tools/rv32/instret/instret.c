// instret.count(at, call, *args): call(*args), and in at[0], of an array of 'I', the instructions
// that the core retired meanwhile. instret.mark(at): in at[0] those since the last mark(at).
// Neither allocates.
#include "py/objarray.h"
#include "py/runtime.h"

static uint32_t retired(void) {
    uint32_t now;
    __asm volatile ("csrr %0, minstret" : "=r" (now));
    return now;
}

static mp_obj_t count(size_t n_args, const mp_obj_t *args) {
    mp_obj_array_t *at = MP_OBJ_TO_PTR(args[0]);
    uint32_t began = retired();
    mp_obj_t result = mp_call_function_n_kw(args[1], n_args - 2, 0, args + 2);
    ((uint32_t *)at->items)[0] = retired() - began;
    return result;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR(count_obj, 2, count);

static mp_obj_t mark(mp_obj_t at_in) {
    mp_obj_array_t *at = MP_OBJ_TO_PTR(at_in);
    uint32_t *counts = at->items;
    counts[0] = retired() - counts[1];
    counts[1] = retired();
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_1(mark_obj, mark);

static const mp_rom_map_elem_t names[] = {
    { MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR_instret) },
    { MP_ROM_QSTR(MP_QSTR_count), MP_ROM_PTR(&count_obj) },
    { MP_ROM_QSTR(MP_QSTR_mark), MP_ROM_PTR(&mark_obj) },
};
static MP_DEFINE_CONST_DICT(globals, names);

const mp_obj_module_t instret_module = {
    .base = { &mp_type_module },
    .globals = (mp_obj_dict_t *)&globals,
};
MP_REGISTER_MODULE(MP_QSTR_instret, instret_module);
