// Of extmod/modos.c: os.urandom().
#include "py/mperrno.h"
#include "host.h"

static mp_obj_t mp_os_urandom(mp_obj_t n) {
    vstr_t octets;
    vstr_init_len(&octets, mp_obj_get_int(n));
    int file = host_open("/dev/urandom");
    if (file < 0 || host_get(file, octets.buf, octets.len) != (int)octets.len) {
        mp_raise_OSError(MP_EIO);
    }
    host_close(file);
    return mp_obj_new_bytes_from_vstr(&octets);
}
static MP_DEFINE_CONST_FUN_OBJ_1(mp_os_urandom_obj, mp_os_urandom);
