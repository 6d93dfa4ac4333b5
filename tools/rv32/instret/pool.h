// What a heap that grows as on an ESP32 takes its areas from. See pool.c.
#ifndef __ASSEMBLER__
void *pool_take(__SIZE_TYPE__ size);
void pool_give(void *area);
#endif
#define MP_PLAT_ALLOC_HEAP(size) pool_take(size)
#define MP_PLAT_FREE_HEAP(area) pool_give(area)
