# Files and time of an emulated board; AES and hashes in software.
SRC_USERMOD_C += $(USERMOD_DIR)/host.c $(USERMOD_DIR)/semihosting.c
SRC_THIRDPARTY_C += $(addprefix lib/mbedtls/library/, aes.c sha256.c sha1.c md5.c \
	platform_util.c constant_time.c) shared/timeutils/timeutils.c
CFLAGS_USERMOD += -I$(USERMOD_DIR) -I$(TOP)/lib/mbedtls/include -DMP_CONFIGFILE='"board.h"'
CFLAGS_USERMOD += -DMBEDTLS_CONFIG_FILE='"board_mbedtls.h"'
