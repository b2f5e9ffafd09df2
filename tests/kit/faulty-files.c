/*
 * Loaded before the C library (LD_PRELOAD): system calls on files fail as on a full, broken or
 * simple filesystem.
 *
 * FILE_FAULTS is a list of CALL:ERRNO:FROM:COUNT, separated by spaces. CALL is fallocate,
 * fdatasync, preadv2, pwritev2, nowait (preadv2 with RWF_NOWAIT) or dsync (pwritev2 with
 * RWF_DSYNC). FROM is the number of the first call that fails, counted from 1. CALL:0:FROM:COUNT
 * makes a transfer move a part only.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PART_BYTES = 1000 };
enum call { FALLOCATE, FDATASYNC, PREADV2, PWRITEV2, NOWAIT, DSYNC, CALLS };
static const char *const names[CALLS] = {"fallocate", "fdatasync", "preadv2", "pwritev2", "nowait", "dsync"};
static int calls[CALLS];

/* -1: as always; 0: a part only; otherwise the errno. */
static int fault(enum call call) {
  int number = __atomic_add_fetch(&calls[call], 1, __ATOMIC_RELAXED);
  const char *each = getenv("FILE_FAULTS");
  size_t length = strlen(names[call]);
  for (; each != NULL && *each != '\0'; each = strchr(each, ' ') == NULL ? NULL : strchr(each, ' ') + 1) {
    int error, from, count;
    if (strncmp(each, names[call], length) != 0 || sscanf(each + length, ":%d:%d:%d", &error, &from, &count) != 3) continue;
    if (number >= from && number < from + count) return error;
  }
  return -1;
}

int fallocate(int fd, int mode, off_t offset, off_t size) {
  int (*real)(int, int, off_t, off_t) = (int (*)(int, int, off_t, off_t))dlsym(RTLD_NEXT, "fallocate");
  int error = fault(FALLOCATE);
  if (error <= 0) return real(fd, mode, offset, size);
  errno = error;
  return -1;
}

int fdatasync(int fd) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
  int error = fault(FDATASYNC);
  if (error <= 0) return real(fd);
  errno = error;
  return -1;
}

typedef ssize_t (*transfer)(int, const struct iovec *, int, off_t, int);

static ssize_t transferred(const char *name, enum call call, int fd, const struct iovec *all, int count, off_t offset, int flags) {
  transfer real = (transfer)dlsym(RTLD_NEXT, name);
  int error = fault(call);
  if (error > 0) {
    errno = error;
    return -1;
  }
  struct iovec part = {.iov_base = all->iov_base, .iov_len = all->iov_len > PART_BYTES ? PART_BYTES : all->iov_len};
  return error == 0 ? real(fd, &part, 1, offset, flags) : real(fd, all, count, offset, flags);
}

ssize_t preadv2(int fd, const struct iovec *all, int count, off_t offset, int flags) {
  return transferred("preadv2", (flags & RWF_NOWAIT) != 0 ? NOWAIT : PREADV2, fd, all, count, offset, flags);
}

ssize_t pwritev2(int fd, const struct iovec *all, int count, off_t offset, int flags) {
  return transferred("pwritev2", (flags & RWF_DSYNC) != 0 ? DSYNC : PWRITEV2, fd, all, count, offset, flags);
}
