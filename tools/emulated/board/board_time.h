// Of extmod/modtime.c: a clock that begins in July 2026, as a board's that has been set.
#include "shared/timeutils/timeutils.h"

#define NOW (837000000u + mp_hal_ticks_ms() / 1000)

static mp_obj_t time_localtime(size_t n_args, const mp_obj_t *args);

static mp_obj_t mp_time_localtime_get(void) {
    mp_obj_t now = mp_obj_new_int_from_uint(NOW);
    return time_localtime(1, &now);
}

static mp_obj_t mp_time_time_get(void) {
    return mp_obj_new_int_from_uint(NOW);
}
