// As many words as MicroPython's native code keeps for it.
typedef int jmp_buf[17];
int setjmp(jmp_buf);
void longjmp(jmp_buf, int) __attribute__((noreturn));
