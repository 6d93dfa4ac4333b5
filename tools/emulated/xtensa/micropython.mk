# What a bare Xtensa core needs besides.
ifeq ($(QEMU_ARCH),xtensa)
SRC_USERMOD_C += $(USERMOD_DIR)/sim.c
SRC_USERMOD_LIB_C += $(USERMOD_DIR)/arithmetic.c
SRC_USERMOD_LIB_ASM += $(USERMOD_DIR)/start.S
endif
