// In place of ESP-IDF's heap: a pool that a heap grows into from its end downwards, so that a later
// area lies before an earlier one, where addresses are the other way round than what is found first.
#include "py/gc.h"
#include "py/runtime.h"

#if MICROPY_GC_SPLIT_HEAP_AUTO

#define POOL 131072
#define MOST 8

static uint32_t pool[POOL / 4];
static uint32_t *areas[MOST + 1] = { pool + POOL / 4 };
static size_t taken = 0;
static size_t grown = 0;

size_t gc_get_max_new_split(void) {
    return taken < MOST ? (char *)areas[taken] - (char *)pool : 0;
}

void *pool_take(size_t size) {
    size_t words = (size + 15) / 16 * 4;
    if (size > gc_get_max_new_split()) {
        return NULL;
    }
    areas[taken + 1] = areas[taken] - words;
    taken++;
    grown++;
    return areas[taken];
}

// Areas between others stay taken until the last is given back.
void pool_give(void *area) {
    for (size_t i = 1; i <= taken; i++) {
        if (areas[i] == area) {
            if (i == taken) {
                taken--;
            }
        }
    }
}

// esp32.idf_heap_info(4), as ports/esp32/modesp32.c has it: all, free, the largest block, least free.
static mp_obj_t idf_heap_info(mp_obj_t caps) {
    (void)caps;
    mp_obj_t n = MP_OBJ_NEW_SMALL_INT(gc_get_max_new_split());
    mp_obj_t info[] = { MP_OBJ_NEW_SMALL_INT(POOL), n, n, n };
    mp_obj_t one = mp_obj_new_tuple(4, info);
    return mp_obj_new_list(1, &one);
}
static MP_DEFINE_CONST_FUN_OBJ_1(idf_heap_info_obj, idf_heap_info);

// How many times the heap has grown.
static mp_obj_t times(void) {
    return MP_OBJ_NEW_SMALL_INT(grown);
}
static MP_DEFINE_CONST_FUN_OBJ_0(times_obj, times);

static const mp_rom_map_elem_t names[] = {
    { MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR_esp32) },
    { MP_ROM_QSTR(MP_QSTR_idf_heap_info), MP_ROM_PTR(&idf_heap_info_obj) },
    { MP_ROM_QSTR(MP_QSTR_grown), MP_ROM_PTR(&times_obj) },
};
static MP_DEFINE_CONST_DICT(globals, names);

const mp_obj_module_t esp32_module = {
    .base = { &mp_type_module },
    .globals = (mp_obj_dict_t *)&globals,
};
MP_REGISTER_MODULE(MP_QSTR_esp32, esp32_module);

#endif
