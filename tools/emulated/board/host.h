// Files of the machine that runs QEMU, and time, as each core reaches them.
int host_open(const char *path); // a number, or less than zero; a directory can be opened
int host_get(int file, void *to, unsigned n); // octets; none or less than zero for a directory
void host_close(int file);
unsigned host_us(void); // microseconds
