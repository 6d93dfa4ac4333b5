# A board of MicroPython's port for QEMU (BOARD_DIR): a bare Xtensa core with register windows.
QEMU_ARCH = xtensa
QEMU_MACHINE = sim
CFLAGS += -I$(BOARD_DIR)/include -fno-strict-aliasing
CFLAGS += -DMICROPY_EMIT_XTENSAWIN=1 -DMICROPY_NLR_SETJMP=1 -DMICROPY_GCREGS_SETJMP=1
CFLAGS += -DMICROPY_HW_MCU_NAME='"de212"'
LDSCRIPT = $(BOARD_DIR)/link.ld
