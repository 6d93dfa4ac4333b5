// What make bench-rv32 has, and the other hashes of hashlib.
#include "../../rv32/instret/rig_mbedtls.h"
#define MBEDTLS_SHA1_C
#define MBEDTLS_MD5_C
