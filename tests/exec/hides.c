/*
 * A program that is closed to its own user, as agents that hold keys are: its calls on files that
 * are not VFIO's go on, and those on VFIO's fail.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static void show(const char *what, long result) { printf("%s %s\n", what, result < 0 ? strerrorname_np(errno) : "ok"); }

int main(int argc, char **argv) {
  char bytes[4];
  if (argc != 2 || prctl(PR_SET_DUMPABLE, 0) != 0) return 1;
  const int fd = open("/etc/passwd", O_RDONLY);
  show("open", fd);
  show("pread", pread(fd, bytes, sizeof bytes, 0));
  show("nothing", open("/etc/no-such-file", O_RDONLY));
  show("group", open(argv[1], O_RDWR));
  return 0;
}
