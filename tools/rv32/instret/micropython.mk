# Our counter, and mbedTLS's AES and SHA-256 in software, as boards without hardware for them have.
SRC_USERMOD_C += $(USERMOD_DIR)/instret.c $(USERMOD_DIR)/pool.c
SRC_THIRDPARTY_C += $(addprefix lib/mbedtls/library/, aes.c sha256.c platform_util.c constant_time.c)
CFLAGS_USERMOD += -I$(USERMOD_DIR) -I$(TOP)/lib/mbedtls/include
CFLAGS_USERMOD += -DMICROPY_SSL_MBEDTLS=1 -DMICROPY_PY_CRYPTOLIB=1
CFLAGS_USERMOD += -DMBEDTLS_CONFIG_FILE='"rig_mbedtls.h"'
