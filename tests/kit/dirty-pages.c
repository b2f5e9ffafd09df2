/*
 * cachestat(2), Linux 6.5. dirty-pages FILE prints how many pages of the file the disk has not got
 * yet, or nothing on a kernel without the call.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

enum { VT_CACHESTAT = 451 }; /* the same on all architectures */

int main(int argc, char **argv) {
  /* pages: cached, dirty, under writeback, evicted, recently evicted */
  uint64_t all[2] = {0, 0}, pages[5] = {0};
  int fd = argc == 2 ? open(argv[1], O_RDONLY) : -1;
  if (fd < 0) return 1;
  if (syscall(VT_CACHESTAT, fd, all, pages, 0) == 0) printf("%llu", (unsigned long long)(pages[1] + pages[2]));
  return 0;
}
